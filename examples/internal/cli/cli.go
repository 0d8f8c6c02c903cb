// Package cli is what the examples' command lines have in common.
package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Kubeconfig returns the client configuration of the file's current context and
// that context's namespace. Its errors name the file, in one line; whatever is
// wrong with the file is found here, before anything runs.
func Kubeconfig(file string) (cfg *rest.Config, namespace string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot use the kubeconfig %s: %s", file, OneLine(err))
		}
	}()
	raw, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, "", err
	}
	cc := clientcmd.NewDefaultClientConfig(*raw, nil)
	if cfg, err = cc.ClientConfig(); err != nil {
		return nil, "", err
	}
	if _, err = rest.TransportFor(cfg); err != nil { // a certificate that is none
		return nil, "", err
	}
	cfg.QPS = -1 // the server's own flow control decides; client-go's default of 5 a second would queue swaps
	namespace, _, err = cc.Namespace()
	return cfg, namespace, err
}

// OneLine is an error's text with its line breaks folded.
func OneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// IsTerminal tells whether a person may be watching.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Known is a time as JSON has it: null where it is not known.
func Known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
