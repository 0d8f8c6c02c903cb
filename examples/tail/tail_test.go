package main

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/internal/testutil"
)

func TestEveryRunOfEveryContainerIsPrinted(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	c := tailed(t, nil, func(c *cluster) {
		p := cli.Pod("web", cli.Script("app", "echo app", "sleep 1", "exit 1"))
		p.Spec.InitContainers = []corev1.Container{cli.Script("init", "echo init"), cli.Script("sidecar", "echo sidecar", "sleep 90")}
		p.Spec.InitContainers[1].RestartPolicy = &always
		c.create("default", p)
		time.Sleep(50 * time.Second)
	})
	c.expect(map[string][]string{
		"default/web init#0": {"init"}, "default/web sidecar#0": {"sidecar"},
		"default/web app#0": {"app"}, "default/web app#1": {"app"}, "default/web app#2": {"app"}, "default/web app#3": {"app"},
	})
	c.says("default/web", `"app"`, "again and again")
}

func TestOnlyTheSelectedPodsAreTailedTheOldAndTheNew(t *testing.T) {
	c := tailed(t, func(c *cluster) { c.selector = "app=web" }, func(c *cluster) {
		c.create("default", cli.Once(cli.Pod("web", cli.Script("a", "echo early"))))
		c.create("default", cli.Once(cli.Pod("db", cli.Script("a", "echo not selected"))))
		c.create("other", cli.Once(cli.Pod("web", cli.Script("a", "echo elsewhere"))))
		time.Sleep(time.Minute)
		late := cli.Once(cli.Pod("late", cli.Script("a", "echo late")))
		late.Labels["app"] = "web"
		c.create("default", late)
		time.Sleep(5 * time.Second)
	})
	c.expect(map[string][]string{"default/web a#0": {"early"}, "default/late a#0": {"late"}})
}

func TestAPodThatComesBackToTheSelectorIsPrintedFromItsBeginning(t *testing.T) {
	c := tailed(t, func(c *cluster) { c.selector = "app=web" }, func(c *cluster) {
		c.create("default", cli.Once(cli.Pod("web", cli.Script("a", "seq 3", "sleep 20", "seq 2"))))
		time.Sleep(5 * time.Second)
		c.patch("web", `{"metadata":{"labels":{"app":"db"}}}`)
		time.Sleep(5 * time.Second)
		c.patch("web", `{"metadata":{"labels":{"app":"web"}}}`)
		time.Sleep(time.Minute)
	})
	c.expect(map[string][]string{"default/web a#0": append(numbers(3), append(numbers(3), numbers(2)...)...)})
	c.says("default/web a#0: Verified, 5 lines")
}

func TestAnInterruptDrainsSaysWhatTheLogsAreWorthAndExitsWith0(t *testing.T) {
	c := tailed(t, nil, func(c *cluster) {
		c.create("default", cli.Once(cli.Pod("ended", cli.Script("a", "seq 1000"))))
		c.create("default", cli.Once(cli.Pod("live", cli.Script("a", "seq 10", "sleep 600"))))
		time.Sleep(1100 * time.Millisecond) // the one has ended some milliseconds ago
	})
	if c.status != 0 {
		t.Errorf("exit status %d", c.status)
	}
	c.expect(map[string][]string{"default/ended a#0": numbers(1000), "default/live a#0": numbers(10)})
	c.says("default/ended a#0", "Verified", "1000 lines")
	c.says("default/live a#0", "Unverified", "10 lines")
	c.says("1010 lines of 2 runs", "1 verified", "1 unverified", "0 incomplete")
}

func TestTheAPIServerAndTheKubeletMayGoAwayForAWhile(t *testing.T) {
	for name, k := range map[string]struct {
		harm func(*cluster) error
		says string
	}{
		"the API server": {func(c *cluster) error { return c.RestartServer(c.t.Context(), 20*time.Second) }, "in contact again"},
		"the kubelet":    {func(c *cluster) error { return c.RestartKubelet(c.t.Context(), 20*time.Second) }, "cannot be read"},
		"a short while":  {func(c *cluster) error { return c.RestartKubelet(c.t.Context(), time.Second) }, "2 verified"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tailed(t, nil, func(c *cluster) {
				c.create("default", cli.Once(cli.Pod("web", cli.Script("a", "seq 5", "sleep 60", "seq 5"))))
				time.Sleep(30 * time.Second)
				if err := k.harm(c); err != nil {
					t.Error(err)
				}
				c.create("default", cli.Once(cli.Pod("later", cli.Script("a", "echo later"))))
				time.Sleep(100 * time.Second)
			})
			c.expect(map[string][]string{"default/web a#0": append(numbers(5), numbers(5)...), "default/later a#0": {"later"}})
			c.says(k.says)
			c.says("read again")
			c.says("2 verified", "0 unverified", "0 incomplete")
		})
	}
}

func TestAContainerThatCannotRunIsSaidOnceAndPrintedWhenItRunsAfterAll(t *testing.T) {
	c := tailed(t, nil, func(c *cluster) {
		c.create("default", cli.Once(cli.Pod("typo", corev1.Container{Name: "a", Image: "demo/shh", Args: []string{"echo after all"}})))
		time.Sleep(10 * time.Minute)
		c.patch("typo", `{"spec":{"containers":[{"name":"a","image":"demo/sh"}]}}`)
		time.Sleep(10 * time.Minute)
	})
	c.says("default/typo", `"a"`, "demo/shh", "not found")
	if n := strings.Count(c.stderr.String(), "demo/shh\" was not found"); n != 1 {
		t.Errorf("said %d times:\n%s", n, c.stderr.String())
	}
	c.expect(map[string][]string{"default/typo a#0": {"after all"}})
}

func TestAGapIsALineOnStderrAndAnObjectInItsPlace(t *testing.T) {
	c := tailed(t, nil, func(c *cluster) {
		c.create("default", cli.Pod("web", cli.Script("a", "seq 5", "sleep 600")))
		time.Sleep(10 * time.Second)
		c.remove("web")
		time.Sleep(10 * time.Second)
	})
	c.expect(map[string][]string{"default/web a#0": numbers(5)})
	if _, gaps := c.printed(); !reflect.DeepEqual(gaps, map[string][]int{"default/web a#0": {5}}) {
		t.Errorf("gaps behind lines %v", gaps)
	}
	c.says("default/web a#0: gap: lines may be missing after line 5", "deleted")
	c.says("default/web a#0: Unverified")
}

func TestAPodThatIsGoneHoldsNoMemory(t *testing.T) {
	tailed(t, nil, func(c *cluster) {
		c.create("default", cli.Pod("web", cli.Script("a", "seq 1000", "sleep 600")))
		time.Sleep(5 * time.Second)
		if st := c.tail.logs.Stats(); st.Captures != 1 || st.Memory == 0 {
			t.Errorf("before: %+v", st)
		}
		c.remove("web")
		time.Sleep(time.Minute)
		if st := c.tail.logs.Stats(); st.Captures != 0 || st.Live != 0 || st.Memory != 0 || st.Disk != 0 {
			t.Errorf("the pod is gone, and yet: %+v", st)
		}
		if st := c.tail.pods.Stats(); st.Tracked != 0 || st.Pods != 0 {
			t.Errorf("the pod is gone, and yet: %+v", st)
		}
	})
}

func TestALongLineIsPrintedAsOneAndALongerOneInPieces(t *testing.T) {
	c := tailed(t, nil, func(c *cluster) {
		c.create("default", cli.Once(cli.Pod("web", corev1.Container{Name: "a", Image: "demo/long"})))
		time.Sleep(8 * time.Second)
	})
	lines, _ := c.printed()
	got := lines["default/web a#0"]
	x, y, z := strings.Repeat("x", 200_000), strings.Repeat("y", 130_000), strings.Repeat("z", 3<<20)
	if n := len(got); n < 5 || got[0] != x || got[n-1] != y || strings.Join(got[1:n-1], "") != z {
		t.Errorf("%d objects of %d bytes", len(got), len(strings.Join(got, "")))
	}
	c.says("3 lines of 1 runs")
}

func TestRefusedPodsAreExitStatus1(t *testing.T) {
	c := tailed(t, func(c *cluster) {
		c.Fault(func(*http.Request) testutil.Fault {
			return testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "pods is forbidden: User cannot list"}
		})
	}, func(*cluster) { time.Sleep(time.Minute) })
	if c.status != cli.Failed {
		t.Errorf("exit status %d, want %d", c.status, cli.Failed)
	}
	c.says("tail:", "User cannot list")
}

func TestAFrozenStdoutHoldsUpNeitherWatchNorCaptureNorNotice(t *testing.T) {
	var p *pipe
	c := tailed(t, func(c *cluster) { p = c.clog(1) }, func(c *cluster) {
		c.create("default", cli.Once(cli.Pod("web", cli.Script("a", "seq 5", "sleep 60", "seq 5"))))
		time.Sleep(10 * time.Second)
		if err := c.RestartServer(c.t.Context(), 20*time.Second); err != nil {
			t.Error(err)
		}
		c.create("default", cli.Once(cli.Pod("later", cli.Script("a", "seq 5"))))
		time.Sleep(60 * time.Second)
		synctest.Wait()
		c.says("lost contact")
		c.says("in contact again")
		if st := c.tail.logs.Stats(); st.Verified != 2 {
			t.Errorf("behind a frozen stdout: %+v", st)
		}
		close(p.opened)
	})
	if c.status != 0 {
		t.Errorf("exit status %d", c.status)
	}
	c.expect(map[string][]string{"default/web a#0": append(numbers(5), numbers(5)...), "default/later a#0": numbers(5)})
}
