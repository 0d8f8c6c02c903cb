package nodelog_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
)

const path = "/var/log/pods/n_p_u/c/0.log"

// story is a log and what a test does with it, in virtual time.
type story struct {
	*testing.T
	*nodelog.Log
	start time.Time
}

func tell(t *testing.T, o nodelog.Options, f func(*story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.ID, o.Path = "containerd://a1", path
		f(&story{T: t, Log: nodelog.New(o), start: time.Now()})
	})
}

func (s *story) print(text string) {
	if _, err := io.WriteString(s.Log, text); err != nil {
		s.Error(err)
	}
}

// at is a record of so many milliseconds after the start.
func (s *story) at(ms int, text string) nodelog.Record {
	return nodelog.Record{At: s.start.Add(time.Duration(ms) * time.Millisecond).UTC(), Text: text}
}

func part(r nodelog.Record) nodelog.Record { r.Partial = true; return r }

func (s *story) expect(what, got, want string) {
	s.Helper()
	if got != want {
		s.Errorf("%s: %q, want %q", what, got, want)
	}
}

// read is the whole answer to one request.
func (s *story) read(o nodelog.ReadOptions) string {
	text, err := io.ReadAll(s.Open(s.Context(), o))
	if err != nil {
		s.Error(err)
	}
	return string(text)
}

// follow begins a follow that is read as fast as it comes. all waits for its end.
func (s *story) follow(o nodelog.ReadOptions) (all func() string) {
	o.Follow = true
	var text strings.Builder
	done := make(chan error, 1)
	go func() {
		_, err := s.Open(s.Context(), o).WriteTo(&text)
		done <- err
	}()
	synctest.Wait()
	return func() string {
		if err := <-done; err != nil {
			s.Error(err)
		}
		return text.String()
	}
}

// files are those that have names, and what is in them.
func (s *story) files() string {
	var all []string
	for _, f := range s.Files() {
		all = append(all, f.Name+" "+strings.ReplaceAll(f.Text, "\n", "/"))
	}
	return strings.Join(all, ", ")
}

func TestARotationKeepsAsManyFilesAsTheKubeletDoes(t *testing.T) {
	for most, want := range map[int]string{
		5: "0.log.20000101-000020.gz 2/, 0.log.20000101-000030.gz 3/, 0.log.20000101-000040.gz 4/, 0.log.20000101-000050 5/, 0.log ",
		3: "0.log.20000101-000040.gz 4/, 0.log.20000101-000050 5/, 0.log ",
		2: "0.log.20000101-000050 5/, 0.log ",
	} {
		tell(t, nodelog.Options{}, func(s *story) {
			for i := range 5 {
				s.print(fmt.Sprintln(i + 1))
				time.Sleep(10 * time.Second)
				s.Rotate(most)
			}
			s.expect("files", s.files(), want)
			s.expect("a read", s.read(nodelog.ReadOptions{}), "")
		})
	}
}

func TestWhatIsBegunOfALineGoesToTheOldFile(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		s.print("one\ntwo ")
		follow := s.follow(nodelog.ReadOptions{})
		s.Rename(5)
		s.expect("in between", s.read(nodelog.ReadOptions{}), fmt.Sprintf("failed to try resolving symlinks in path %q: lstat %s: no such file or directory", path, path))
		s.Reopen()
		synctest.Wait() // the follower has the new file
		s.Turn()
		s.print("halves\n")
		s.expect("files", s.files(), "0.log.20000101-000000 one/two , 0.log halves/")
		s.Exit()
		s.expect("the follow", follow(), "one\nhalves\n")
	})
}

func TestAFollowerLearnsOfANewFileAtTheEndOfItsOwnOnly(t *testing.T) {
	for name, c := range map[string]struct {
		atEnd     bool // the follower has been at the end of its file before
		rotations int
		want      string
	}{
		"never at the end":                        {false, 1, "012"},
		"at the end before":                       {true, 1, "0123"},
		"at the end before, behind two rotations": {true, 2, "01244"}, // 3 is skipped, 4 sent again
		"never at the end, two rotations":         {false, 2, "012"},
	} {
		t.Run(name, func(t *testing.T) {
			tell(t, nodelog.Options{}, func(s *story) {
				print := func(i int) { s.print(fmt.Sprintln(i)) }
				r, got := s.Open(s.Context(), nodelog.ReadOptions{Follow: true}), ""
				take := func(most int) error {
					p := make([]byte, most)
					k, err := r.Read(p)
					got += string(p[:k])
					return err
				}
				print(0)
				_ = take(map[bool]int{false: len("0\n"), true: 100}[c.atEnd])
				print(1)
				print(2)
				for i := range c.rotations {
					time.Sleep(time.Second)
					s.Rotate(5)
					print(3 + i)
				}
				time.AfterFunc(time.Minute, s.Exit)
				for take(100) == nil {
				}
				s.expect("lines", strings.ReplaceAll(got, "\n", ""), c.want)
			})
		})
	}
}

func TestARotationThatFailsSendsAFollowTheFileAgain(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		s.print("1\n2\n")
		follow := s.follow(nodelog.ReadOptions{})
		s.FailToRotate(5)
		synctest.Wait()
		s.print("3\n")
		s.Exit()
		s.expect("the follow", follow(), "1\n2\n1\n2\n3\n")
		s.expect("files", s.files(), "0.log 1/2/3/")
	})
}

func TestTheRestOfALineHasATimeOnlyWhereTheReadBeginsWithIt(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		n := func(n int64) *int64 { return &n }
		stderr := s.at(3200, "stderr's")
		stderr.Stderr = true
		s.Append(s.at(1000, "one"), part(s.at(2000, "le")), part(s.at(3000, "")), stderr, s.at(4000, ""), part(s.at(5000, "$ ")))
		for _, c := range []struct {
			o    nodelog.ReadOptions
			want string
		}{
			{nodelog.ReadOptions{}, "one\nlestderr's\n\n$ "},
			{nodelog.ReadOptions{Timestamps: true}, "01.0 one\n02.0 le03.2 stderr's\n04.0 \n05.0 $ "}, // an empty part ends the line
			{nodelog.ReadOptions{Timestamps: true, TailLines: n(3)}, "03.2 stderr's\n04.0 \n05.0 $ "},
			{nodelog.ReadOptions{Timestamps: true, TailLines: n(0)}, ""},
			{nodelog.ReadOptions{TailLines: n(1000)}, "one\nlestderr's\n\n$ "},
			{nodelog.ReadOptions{LimitBytes: n(5)}, "one\nl"},
			{nodelog.ReadOptions{LimitBytes: n(4)}, "one\n"},
			{nodelog.ReadOptions{Timestamps: true, Since: s.start.Add(3 * time.Second)}, "03.2 stderr's\n04.0 \n05.0 $ "},
		} {
			got := s.read(c.o)
			s.expect(fmt.Sprintf("%+v", c.o), strings.NewReplacer("2000-01-01T00:00:", "", "00000000Z", "").Replace(got), c.want)
		}
	})
}

func TestARecordWhoseEndIsMissingComesToWhoDoesNotFollow(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		s.print("one\n")
		raw := s.at(1000, "torn").Raw()
		s.Tear(raw[:len(raw)-1])
		follow := s.follow(nodelog.ReadOptions{})
		s.expect("a read", s.read(nodelog.ReadOptions{}), "one\ntorn")
		one := int64(1)
		s.expect("a tail", s.read(nodelog.ReadOptions{TailLines: &one}), "one\n")
		s.Exit()
		s.expect("a follow", follow(), "one\n")
		s.Tear("\n" + raw[:10] + "\n") // no time
		s.Append(s.at(2000, "last"))
		s.expect("a read", s.read(nodelog.ReadOptions{}), "one\ntorn\nlast\n")
	})
	tell(t, nodelog.Options{}, func(s *story) {
		s.Tear("garbage\n")
		s.expect("no log", s.read(nodelog.ReadOptions{}), `failed to get parse function: unsupported log format: "garbage\n"`)
	})
}

func TestAFileThatIsEmptiedGoesOnInTheMiddle(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		s.print("one\n") // 35 bytes
		follow := s.follow(nodelog.ReadOptions{})
		s.Truncate()
		synctest.Wait()
		s.print("two and more\n")
		s.print("three\n")
		s.expect("a read", s.read(nodelog.ReadOptions{}), "two and more\nthree\n")
		s.Exit()
		s.expect("a follow", follow(), "one\nthree\n")
	})
}

func TestWhatGoesWrongOnTheNodeComesAsText(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		s.print("one\n")
		none := errors.New("too many open files")
		s.expect("no inotify", s.follow(nodelog.ReadOptions{Watch: func() error { return none }})(), "one\nfailed to create fsnotify watcher: too many open files")
		s.expect("not for a read", s.read(nodelog.ReadOptions{Watch: func() error { return none }}), "one\n")
		follow := s.follow(nodelog.ReadOptions{})
		s.Remove()
		const gone = `rpc error: code = NotFound desc = an error occurred when try to find container "a1": not found`
		s.expect("removed meanwhile", follow(), "one\n"+gone)
		s.expect("removed before", s.read(nodelog.ReadOptions{}), "unable to retrieve container logs for containerd://a1")
		s.expect("files", s.files(), "")
	})
	tell(t, nodelog.Options{}, func(s *story) {
		s.print("one\n")
		follow := s.follow(nodelog.ReadOptions{})
		s.Answer(func() error { return errors.New("rpc error: code = Unknown desc = closing") })
		s.expect("an answer", follow(), "one\nrpc error: code = Unknown desc = closing")
		s.expect("before", s.read(nodelog.ReadOptions{}), "unable to retrieve container logs for containerd://a1")
		s.Answer(nil)
		s.expect("after", s.read(nodelog.ReadOptions{}), "one\n")
	})
}

func TestAFollowEndsSomeTimeAfterItsContainer(t *testing.T) {
	tell(t, nodelog.Options{Notice: 700 * time.Millisecond}, func(s *story) {
		s.print("one\n")
		follow := s.follow(nodelog.ReadOptions{})
		time.Sleep(time.Minute)
		s.print("half")
		s.Exit()
		s.expect("the follow", follow(), "one\nhalf")
		if d := time.Since(s.start); d != time.Minute+700*time.Millisecond {
			s.Errorf("it took %s", d)
		}
		s.expect("a follow of a dead one", s.follow(nodelog.ReadOptions{})(), "one\nhalf")
		if d := time.Since(s.start); d != time.Minute+700*time.Millisecond {
			s.Errorf("it took %s", d)
		}
		if _, err := s.Write([]byte("x")); err == nil {
			s.Error("the dead write")
		}
	})
}

func TestAReadEndsWhenItsReaderGoesAway(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		s.print("one\n")
		ctx, cancel := context.WithCancel(s.Context())
		end := errors.New("connection lost")
		var lost bool
		reads := []*nodelog.Reader{
			s.Open(ctx, nodelog.ReadOptions{Follow: true}),
			s.Open(s.Context(), nodelog.ReadOptions{Follow: true}),
			s.Open(s.Context(), nodelog.ReadOptions{Follow: true, AtEnd: func() error {
				if lost {
					return end
				}
				return nil
			}}),
		}
		for _, r := range reads {
			p := make([]byte, 100)
			if n, err := r.Read(p); string(p[:n]) != "one\n" || err != nil {
				t.Errorf("%q, %v", p[:n], err)
			}
		}
		cancel()
		reads[1].Close()
		lost = true
		s.Wake()
		for i, want := range []string{"context canceled", "nodelog: the reader was closed", "connection lost"} {
			for range 2 {
				if _, err := reads[i].Read(make([]byte, 1)); err == nil || err.Error() != want {
					t.Errorf("%d ends in %v", i, err)
				}
			}
		}
	})
}

func TestARequestsTimeHasWholeSeconds(t *testing.T) {
	tell(t, nodelog.Options{}, func(s *story) {
		s.Append(s.at(1200, "one"), s.at(2200, "two"))
		since := metav1.NewTime(s.start.Add(1900 * time.Millisecond))
		s.expect("since", s.read(nodelog.For(&corev1.PodLogOptions{SinceTime: &since})), "one\ntwo\n")
		time.Sleep(3700 * time.Millisecond)
		seconds := int64(2) // since 1.7 s
		s.expect("seconds", s.read(nodelog.For(&corev1.PodLogOptions{SinceSeconds: &seconds})), "two\n")
	})
}

func TestTheTimeOfALineHasNineDigits(t *testing.T) {
	for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 5*3600+1800), time.FixedZone("", -3600)} {
		for _, ns := range []int{0, 1, 10, 500_000_000, 555_000_000, 123_456_789} {
			at := time.Date(2026, 11, 22, 10, 0, 0, ns, zone)
			want := "before " + at.Format("2006-01-02T15:04:05.000000000Z07:00")
			if got := string(nodelog.AppendStamp([]byte("before "), at)); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}

func TestTheClocksOfRuntimesAreWhatTheyAreFor(t *testing.T) {
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		clock                func(*rand.Rand) nodelog.Clock
		equal, back, hasZone bool // some times are equal, some go back, some are not UTC's
	}{
		"containerd":   {clock: nodelog.Containerd},
		"conmon":       {clock: nodelog.Conmon, equal: true},
		"both streams": {clock: nodelog.BothStreams, back: true},
		"set back":     {clock: nodelog.SetBack, back: true},
		"zoned":        {clock: nodelog.Zoned, hasZone: true},
		"summer time":  {clock: nodelog.SummerTime, hasZone: true},
	} {
		clock, last := c.clock(rand.New(rand.NewPCG(1, 0))), start.Add(-time.Hour)
		equal, back, hasZone := false, false, false
		for i := range 100 {
			at := clock(start, i, 0)
			_, offset := at.Zone()
			equal, back, hasZone = equal || at.Equal(last), back || at.Before(last), hasZone || offset != 0
			last = at
		}
		if equal != c.equal || back != c.back || hasZone != c.hasZone {
			t.Errorf("%s: equal %v, back %v, not UTC %v", name, equal, back, hasZone)
		}
	}
	conmon := nodelog.Conmon(rand.New(rand.NewPCG(1, 0)))
	for i := range 100 {
		if conmon(start, 2*i, i).Equal(conmon(start, 2*i+1, i+1)) {
			t.Error("two files share a time")
		}
	}
}

func TestAReadMayBeClosedWhileItComesToTheEndOfItsFile(t *testing.T) {
	for range 20 {
		tell(t, nodelog.Options{}, func(s *story) {
			s.print("one\n")
			r := s.Open(s.Context(), nodelog.ReadOptions{Follow: true})
			go r.Close()
			_, err := io.Copy(io.Discard, struct{ io.Reader }{r})
			if err == nil || err.Error() != "nodelog: the reader was closed" {
				s.Errorf("it ends in %v", err)
			}
		})
	}
}
