package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// outcome is what examples/pipeline says of a step at the end.
type outcome struct {
	Name, Outcome string
	ExitCode      *int
	Failure       *struct{ Class string }
	Lines         int
	Log           string
}

// The program that people run first does on a real kubelet what it does on the
// simulated cluster.
func TestPipelineExampleTellsTheTruth(t *testing.T) {
	needCluster(t)
	program := buildExample(t, "pipeline")
	quick := fmt.Sprintf(`{name: quick, image: %q, commands: [echo, quick]}`, *busyboxImage)
	silent := fmt.Sprintf(`{name: silent, image: %q, commands: ["true"]}`, *busyboxImage)
	fails := fmt.Sprintf(`{name: fails, image: %q, commands: [sh, -c, "echo it fails; exit 3"]}`, *busyboxImage)
	missing := badImage(t)
	bad := fmt.Sprintf(`{name: bad, image: %q, commands: [echo, never]}`, missing)
	for name, test := range map[string]struct {
		steps  []string
		args   []string
		want   []string
		status int
		words  []string // on stderr
	}{
		"all succeed": {
			steps: []string{quick, silent}, status: 0,
			want: []string{"quick succeeded 0, 1 lines verified", "silent succeeded 0, 0 lines verified"},
		},
		"one fails": {
			steps: []string{fails, quick}, status: 1, words: []string{"fails", *busyboxImage, "3"},
			want: []string{"fails failed 3, 1 lines verified", "quick skipped, 0 lines none"},
		},
		"an image that cannot be pulled": {
			steps: []string{quick, bad, silent}, status: 1, words: []string{"bad", missing, "connection refused"},
			want: []string{"quick succeeded 0, 1 lines verified", "bad error ImagePull, 0 lines none", "silent skipped, 0 lines none"},
		},
		"an unknown namespace": {
			steps: []string{quick}, args: []string{"-namespace", "nowhere"}, status: 1, words: []string{"nowhere"},
			want: []string{"quick error NotFound, 0 lines none"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPipeline(t, program, test.steps, test.args...)
			err := p.cmd.Run()
			if status := p.cmd.ProcessState.ExitCode(); status != test.status {
				t.Errorf("exit status %d (%v), want %d; stderr:\n%s", status, err, test.status, p.stderr.String())
			}
			for _, word := range test.words {
				if !strings.Contains(p.stderr.String(), word) {
					t.Errorf("stderr does not say %q:\n%s", word, p.stderr.String())
				}
			}
			if diff := cmp.Diff(test.want, p.outcomes(t)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			p.checkGone(t)
		})
	}
}

func TestInterruptedPipelineExampleLeavesNoPod(t *testing.T) {
	needCluster(t)
	sleeps := fmt.Sprintf(`{name: sleeps, image: %q, commands: [sh, -c, "echo here I am; sleep 600"]}`, *busyboxImage)
	p := newPipeline(t, buildExample(t, "pipeline"), []string{sleeps})
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return strings.Contains(p.stdout.String(), "here I am"), nil
	})
	if err != nil {
		t.Errorf("waiting for the step's output: %v; stdout:\n%s\nstderr:\n%s", err, p.stdout.String(), p.stderr.String())
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err = p.cmd.Wait()
	if status := p.cmd.ProcessState.ExitCode(); status != 130 {
		t.Errorf("exit status %d (%v), want 130; stderr:\n%s", status, err, p.stderr.String())
	}
	p.checkGone(t)
}

// buildExample builds a program of the examples and returns its path.
func buildExample(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/go-vela/podlife/examples/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return program
}

// pipeline is one run of the example.
type pipeline struct {
	name           string
	cmd            *exec.Cmd
	stdout, stderr output
}

func newPipeline(t *testing.T, program string, steps []string, args ...string) *pipeline {
	t.Helper()
	p := &pipeline{name: "pipeline-" + strings.ToLower(rand.Text()[:6])}
	text := fmt.Sprintf("name: %s\nplaceholder: %q\nsteps:\n", p.name, *pauseImage)
	for _, s := range steps {
		text += "- " + s + "\n"
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "pipeline.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{
		"-kubeconfig", writeKubeconfig(t, dir), "-namespace", namespace, "-f", file,
		"-node-name", *nodeName, "-host-network", "-timeout", "1m", "-o", "json",
	}, args...)
	p.cmd = exec.CommandContext(t.Context(), program, args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

// writeKubeconfig writes the credentials that the tests have to a file.
func writeKubeconfig(t *testing.T, dir string) string {
	t.Helper()
	c := world.config
	path := filepath.Join(dir, "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"e2e": {
			Server: c.Host, CertificateAuthority: c.CAFile, CertificateAuthorityData: c.CAData,
			InsecureSkipTLSVerify: c.Insecure, TLSServerName: c.ServerName,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"e2e": {
			Token: c.BearerToken, TokenFile: c.BearerTokenFile, Exec: c.ExecProvider,
			ClientCertificate: c.CertFile, ClientCertificateData: c.CertData, ClientKey: c.KeyFile, ClientKeyData: c.KeyData,
		}},
		Contexts:       map[string]*clientcmdapi.Context{"e2e": {Cluster: "e2e", AuthInfo: "e2e"}},
		CurrentContext: "e2e",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// outcomes returns the result line's steps, each as a line of text.
func (p *pipeline) outcomes(t *testing.T) (all []string) {
	t.Helper()
	for line := range strings.Lines(p.stdout.String()) {
		var said struct {
			Type  string
			Steps []outcome
		}
		if err := json.Unmarshal([]byte(line), &said); err != nil {
			t.Errorf("stdout has a line that is no JSON object: %q", line)
		}
		for _, s := range said.Steps {
			text := s.Name + " " + s.Outcome
			if s.ExitCode != nil {
				text += fmt.Sprintf(" %d", *s.ExitCode)
			}
			if s.Failure != nil {
				text += " " + s.Failure.Class
			}
			all = append(all, fmt.Sprintf("%s, %d lines %s", text, s.Lines, s.Log))
		}
	}
	return all
}

// checkGone checks that the pod is gone, or about to be.
func (p *pipeline) checkGone(t *testing.T) {
	t.Helper()
	var left string
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		pods, err := world.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for i := range pods.Items {
			if strings.HasPrefix(pods.Items[i].Name, p.name) {
				left = pods.Items[i].Name
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		t.Errorf("pod %q is left: %v", left, err)
	}
}

// output collects what a process prints, and can be read meanwhile.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(text)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
