package eventsplit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Each answer in testdata/apierrors.jsonl is a Status as an API server sends it,
// with what is to be made of it.
func TestAnswersOfAnAPIServerHaveTheirClass(t *testing.T) {
	raw, err := os.ReadFile("testdata/apierrors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n") {
		var c struct {
			Name, Error string
			Class       Class
			Cause       Cause
			MayRecover  bool
			Refused     bool
			Status      metav1.Status
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		t.Run(c.Name, func(t *testing.T) {
			err := fmt.Errorf("patching: %w", &apierrors.StatusError{ErrStatus: c.Status})
			f := ClassifyAPIError(err)
			if f.Class != c.Class || f.Cause != c.Cause || f.MayRecover != c.MayRecover {
				t.Errorf("got %s, may recover %v", classText(f), f.MayRecover)
			}
			if d := cmp.Diff(c.Error, f.Error()); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if got := answerOf(err) == swapRefused; got != c.Refused {
				t.Errorf("refused: %v", got)
			}
			var status apierrors.APIStatus
			if !errors.As(f, &status) || status.Status().Code != c.Status.Code {
				t.Error("the API's answer cannot be reached")
			}
		})
	}
}

func TestNoAnswerIsTransient(t *testing.T) {
	for _, c := range []struct {
		err   error
		cause Cause
	}{
		{context.Canceled, ""},
		{context.DeadlineExceeded, CauseTimeout},
		{io.ErrUnexpectedEOF, CauseNetwork},
		{&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}, CauseUnreachable},
	} {
		f := ClassifyAPIError(c.err)
		if f.Class != ClassTransient || f.Cause != c.cause || !errors.Is(f, c.err) || answerOf(c.err) != swapUnknown {
			t.Errorf("%v: %s", c.err, classText(f))
		}
	}
	if f := ClassifyAPIError(nil); f != nil {
		t.Errorf("of nil: %v", f)
	}
	already := &Failure{Class: ClassQuota}
	if f := ClassifyAPIError(fmt.Errorf("x: %w", already)); f != already {
		t.Errorf("of a Failure: %v", f)
	}
}
