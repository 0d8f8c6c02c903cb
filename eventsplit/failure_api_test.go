package eventsplit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type answerLine struct {
	Cause      Cause         `json:"cause"`
	Class      Class         `json:"class"`
	Error      string        `json:"error"`
	MayRecover bool          `json:"mayRecover"`
	Name       string        `json:"name"`
	Refused    bool          `json:"refused"`
	Status     metav1.Status `json:"status"`
}

// Each line of testdata/apierrors.jsonl is a Status as an API server sends it, with the class
// that it has to get.
func TestEveryAnswerOfAnAPIServerHasItsClass(t *testing.T) {
	const file = "testdata/apierrors.jsonl"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var anew bytes.Buffer
	encoder := json.NewEncoder(&anew)
	encoder.SetEscapeHTML(false)
	for line := range bytes.Lines(raw) {
		var c answerLine
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		err := fmt.Errorf("patching: %w", &apierrors.StatusError{ErrStatus: c.Status})
		f := ClassifyAPIError(err)
		t.Run(c.Name, func(t *testing.T) {
			if f.Class != c.Class || f.Cause != c.Cause || f.MayRecover != c.MayRecover {
				t.Errorf("got %s, may recover %v", classText(f), f.MayRecover)
			}
			if d := cmp.Diff(c.Error, f.Error()); d != "" && !*update {
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
		c.Error = f.Error()
		if err := encoder.Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	if *update {
		if err := os.WriteFile(file, anew.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The reason for which a request failed tells whether the API server may have got it.
func TestClassifyAPIErrorTellsWhetherTheRequestWasSent(t *testing.T) {
	post := func(err error) error {
		return &url.Error{Op: "Post", URL: "https://10.0.0.1:443/api/v1/namespaces/ci/pods", Err: err}
	}
	dial := func(err error) error { return post(&net.OpError{Op: "dial", Net: "tcp", Err: err}) }
	for name, c := range map[string]struct {
		err   error
		class Class
		cause Cause
	}{
		"credentials, of a plugin":      {post(errors.New("getting credentials: exec: executable aws failed with exit code 255")), ClassNotSent, CauseCredentials},
		"credentials, of another cloud": {post(errors.New(`getting credentials: exec: fork/exec /gke: dial tcp 169.254.169.254:80: i/o timeout`)), ClassNotSent, CauseCredentials},
		"credentials, from a file":      {post(errors.New(`failed to read token file "/var/run/token": open /var/run/token: no such file or directory`)), ClassNotSent, CauseCredentials},
		"credentials, of OIDC":          {post(errors.New("failed to refresh token: oauth2: cannot fetch token: 400 Bad Request")), ClassNotSent, CauseCredentials},
		"the client's own limit":        {fmt.Errorf("client rate limiter Wait returned an error: %w", context.DeadlineExceeded), ClassNotSent, CauseThrottled},
		"no such host":                  {dial(&net.DNSError{Err: "no such host", Name: "api.example", IsNotFound: true}), ClassNotSent, CauseNoSuchHost},
		"no answer of the resolver":     {dial(&net.DNSError{Err: "i/o timeout", Name: "api.example", IsTimeout: true}), ClassNotSent, CauseNoSuchHost},
		"no such host, in words":        {errors.New(`Post "https://api.example/": dial tcp: lookup api.example: no such host`), ClassNotSent, CauseNoSuchHost},
		"its authority is unknown":      {post(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), ClassNotSent, CauseCertificate},
		"its name is another":           {post(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "api.example"}), ClassNotSent, CauseCertificate},
		"ours is not accepted":          {post(&net.OpError{Op: "remote error", Err: tls.AlertError(42)}), ClassNotSent, CauseCertificate},
		"it speaks no TLS":              {post(errors.New("http: server gave HTTP response to HTTPS client")), ClassNotSent, CauseCertificate},
		"refused":                       {dial(syscall.ECONNREFUSED), ClassNotSent, CauseUnreachable},
		"no route":                      {dial(syscall.EHOSTUNREACH), ClassNotSent, CauseUnreachable},
		"dial timeout":                  {dial(os.ErrDeadlineExceeded), ClassNotSent, CauseUnreachable},
		"dial timeout, in words":        {errors.New("dial tcp 10.0.0.1:443: i/o timeout"), ClassNotSent, CauseUnreachable},
		"no handshake":                  {post(errors.New("net/http: TLS handshake timeout")), ClassNotSent, CauseUnreachable},
		"no connection in time":         {post(errors.New("net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)")), ClassNotSent, CauseUnreachable},
		"the proxy is not there":        {post(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED}), ClassNotSent, CauseUnreachable},
		"the stream was refused":        {post(errors.New("stream error: stream ID 1; REFUSED_STREAM")), ClassNotSent, CauseUnreachable},

		"the server shakes no hands":      {post(&net.OpError{Op: "remote error", Err: tls.AlertError(40)}), ClassNotSent, CauseCertificate},
		"it wants another version of TLS": {post(&net.OpError{Op: "remote error", Err: tls.AlertError(70)}), ClassNotSent, CauseCertificate},
		"it knows no such name":           {post(&net.OpError{Op: "remote error", Err: tls.AlertError(112)}), ClassNotSent, CauseCertificate},
		"it speaks an old version of TLS": {post(errors.New("tls: server selected unsupported protocol version 301")), ClassNotSent, CauseCertificate},
		"no way through SOCKS":            {post(&net.OpError{Op: "socks connect", Net: "tcp", Err: errors.New("unknown error host unreachable")}), ClassNotSent, CauseUnreachable},
		"no connection was to be had":     {post(errors.New("http2: no cached connection was available")), ClassNotSent, CauseUnreachable},
		"a clock is wrong":                {post(x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired, Detail: "current time is before"}), ClassNotSent, CauseCertificate},
		"no plugin for credentials":       {post(errors.New("getting credentials: exec: executable gke-gcloud-auth-plugin not found")), ClassNotSent, CauseCredentials},
		"the server shuts down meanwhile": {post(errors.New("http2: Transport: cannot retry err [http2: Transport received Server's graceful shutdown GOAWAY] after Request.Body was written; define Request.GetBody to avoid this error")), ClassUncertain, CauseNetwork},
		"its record is broken":            {post(&net.OpError{Op: "remote error", Err: tls.AlertError(20)}), ClassUncertain, CauseNetwork},

		"a proxy does not let it through": {post(errors.New("Proxy Authentication Required")), ClassNotSent, CauseUnreachable},
		"a proxy finds no way":            {post(errors.New("Bad Gateway")), ClassNotSent, CauseUnreachable},
		"a token with a line's end":       {post(errors.New(`net/http: invalid header field value for "Authorization"`)), ClassNotSent, CauseCredentials},
		"credentials, of OAuth":           {post(errors.New(`oauth2: cannot fetch token: 400 Bad Request`)), ClassNotSent, CauseCredentials},
		"an address without a scheme":     {post(errors.New(`unsupported protocol scheme ""`)), ClassNotSent, CauseUnreachable},

		"given up":                 {context.Canceled, ClassUncertain, ""},
		"given up, of a request":   {post(context.Canceled), ClassUncertain, ""},
		"no answer in time":        {context.DeadlineExceeded, ClassUncertain, CauseTimeout},
		"no answer, of a request":  {post(context.DeadlineExceeded), ClassUncertain, CauseTimeout},
		"no headers in time":       {post(os.ErrDeadlineExceeded), ClassUncertain, CauseTimeout},
		"the answer was cut":       {io.ErrUnexpectedEOF, ClassUncertain, CauseNetwork},
		"the connection was ended": {post(io.EOF), ClassUncertain, CauseNetwork},
		"reset while reading":      {post(&net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}), ClassUncertain, CauseNetwork},
		"reset while writing":      {post(&net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}), ClassUncertain, CauseNetwork},
		"the server goes away":     {post(errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR")), ClassUncertain, CauseNetwork},
		"the server stumbles":      {post(errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer")), ClassUncertain, CauseNetwork},
		"a host's own error":       {errors.New("no"), ClassUncertain, CauseNetwork},
	} {
		t.Run(name, func(t *testing.T) {
			f := ClassifyAPIError(c.err)
			if f.Class != c.class || f.Cause != c.cause || f.MayRecover != (c.cause != CauseCertificate || name == "a clock is wrong") || !errors.Is(f, c.err) {
				t.Errorf("%v: %s, may recover %v", c.err, classText(f), f.MayRecover)
			}
			if maybe := answerOf(c.err) == swapUnknown; maybe != (c.class == ClassUncertain) {
				t.Errorf("%v: the patch may be applied: %v", c.err, maybe)
			}
			if sent := !strings.Contains(f.Error(), "nothing was sent"); sent != (c.class == ClassUncertain) {
				t.Errorf("it says %q", f)
			}
		})
	}
}

func TestClassifyAPIErrorReturnsAFailureAsItIs(t *testing.T) {
	if f := ClassifyAPIError(nil); f != nil {
		t.Errorf("of nil: %v", f)
	}
	already := &Failure{Class: ClassQuota}
	if f := ClassifyAPIError(fmt.Errorf("x: %w", already)); f != already {
		t.Errorf("of a Failure: %v", f)
	}
}
