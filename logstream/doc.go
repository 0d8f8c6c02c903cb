// Package logstream captures every byte that the containers of a pod print, and
// proves it, or says what is missing.
//
// # What it does
//
// A [Streamer] belongs to a process, a [Capture] to a pod. The capture is told
// what a watch of the pod delivers ([Capture.Handle]) and opens the log of a run,
// one life of one container, at the first status that shows its container ID,
// whether it says Running or Terminated. From then on the stream's life depends on
// nothing else: not on a reader, not on an answer of the API server. When it ends,
// for whatever reason, the capture finds out why, and continues where it was, to
// the byte. When the container has ended, one more read of the whole log is
// compared with what was captured. An undisturbed run costs two requests; one more where
// it ran for longer than a second, for a stream that ends while the status still says
// Running is opened again at once; and one more where equal lines carry one time, as they
// may with CRI-O. One that was polled (see Kubernetes caveats) is read twice at its end.
//
// Readers ([Capture.Reader]) can be made before a step starts, while it runs and
// after it ended; they get the same bytes. One whose context ends gives what is captured by
// then, and only then the context's error: a host that is out of time still uploads all
// there is. [Reader.Lines] yields every Gap in its place. [Capture.Drain] returns when every
// run that has ended is final: the pod can be deleted then.
//
// Which runs are work is asked of a [Runs]; package eventsplit's Splitter is one.
// Without one, all are.
//
// # Guarantees
//
//   - A run whose [Certificate] says [Verified] was captured byte by byte: the
//     capture equals an unfiltered read of the node's file, made after the
//     container's end, and the file was not rotated since the run was first opened.
//   - Lines that are known to be missing, or that cannot be excluded to be, are
//     inside a [Gap]. Every rotation that is noticed is one.
//   - No line is captured twice (but see the lag of two rotations below).
//   - What the kubelet writes into a log's body about its own troubles is not
//     output. Output that quotes the kubelet is.
//   - Neither a slow nor an absent reader slows a stream; closing a reader ends none.
//
// # Non-guarantees
//
//   - When the node rotates a log (by default at 10Mi) the runtime may write its
//     last lines to the old file after the kubelet turned to the new one. Nobody
//     can read them through the API. The Gap of the rotation covers them: it lies
//     between the lines around it, of which it encloses none. A stream that is far
//     behind may pass over whole files: that Gap covers them, too, and a line that
//     the kubelet joined of the halves that are left of two. Where the node
//     did not show for 2 s how its file begins, another one may have come and gone
//     (a kubelet rotates a log every 3 s at most): then a second Gap encloses what
//     was captured in that time, but for those 2 s.
//   - A log that was rotated before it was first read has lost its beginning, and
//     the API does not tell: the capture may then be Verified against what is left.
//     One that was empty when it was read first, and is printed to before the next read, as
//     a polled one may be, is Unverified from [Options].RotateSize on, with a Gap before it.
//   - What the container runtime never wrote, because its disk was full or it was
//     killed, is not in the log.
//   - The order of stdout and stderr is the runtime's, not the program's.
//   - The node keeps one dead run a container. Of runs that start and end faster
//     than the watch tells, all but the last are lost; a Gap counts those since the
//     pod was first seen.
//   - A follower that lags by two rotations may be sent a file twice. Lines sent
//     again are recognised by their times and text. Where no two lines of a log have
//     one time, as with containerd, none is captured twice; where many do, as with
//     CRI-O, a file all of whose lines carry one time looks like repeated output and
//     is captured twice. So are lines of more than 64 KiB. None is searched for
//     without end in the log of a node whose clock goes to and fro.
//   - A container may restart before the watch reports it, and the kubelet then answers
//     with the next run's log. While a status says that a run is Running, what its requests
//     bring is taken for its log, and readers have it at once. When the next run's
//     status shows that it was that one's, it is taken back: a Gap stands in its place, the
//     run is Unverified, and the lines are in the next run's log. Readers that had them as
//     the earlier run's are not given them again. What the node has rotated by then, and the
//     next run's own log does not begin with, stays in the earlier run, and the next
//     run is Unverified, with a Gap before its first line. So is Unverified a run that may have
//     been restarted at once, as on its first end, if nothing tells its log from the
//     next one's: because it, or that one, printed nothing. Drain waits for a status
//     that does, up to 50 s. The end of a later run is trusted for five seconds to be
//     the newest; by default the kubelet waits for ten.
//   - Verified rests on two reads that agree. Two that are cut, cleanly, at the
//     same byte look like a whole log.
//   - When the node's clock goes back while a stream that was resumed by time is
//     open, the kubelet hides what is printed until the clock has caught up. The
//     final read finds that, and says so by a certain Gap; the lines are lost.
//   - Nothing is captured of a run that the node gave no container ID, as virtual kubelets
//     and kwok may not: requests for a log name no run, so nobody could tell whose it is. Its
//     certificate is Incomplete, with one Gap that is not certain.
//   - Nobody tells the end of a container whose pod left the scope of its watch: its
//     run is Unverified, and ends when its streams end at once, or with the pod.
//   - A last line without a newline is shown when the run is final, not before:
//     until then nobody knows whether it is whole. So is a prompt.
//
// # Concurrency
//
// All methods of Streamer and Capture may be called from any goroutine. Every
// goroutine belongs to [Streamer.Run], which joins them. Runs is asked, and
// [Options].Notify told, without a lock held; Notify one notice at a time, in order, and
// never after Run has returned. The package logs nothing: what a Streamer tells of itself
// is in Notify, whose [Notice] has a String for a log, and in [Streamer.Stats].
//
// # Backpressure
//
// There is none towards the node: the kubelet stops reading a log after 8 MiB that
// nobody takes, and misses what is rotated meanwhile. Output is kept in memory up
// to Options.Memory, then in an unlinked file up to Options.Disk, then the oldest
// of the run that holds most is dropped, marked by a certain Gap; so is what the
// disk refuses to take or to give back, with the disk's error in the Gap. A line of any
// length takes no more. The file goes to Options.Dir. Run tries the disk when it begins, and
// says by a Notice if it does not work, as later when it fails or works again.
//
// A run whose output goes to the disk waits for the disk where it prints faster than that
// takes it; a run of little output never does. Where none of the writes in flight has ended
// for two seconds the disk hangs: a Notice says so, and what would have to wait for it is
// dropped from then on, with a certain Gap. So is what the disk does not give back within
// five seconds; when four such reads hang, no other is tried until one of them ends. Calls
// of a disk that hangs are the only goroutines that Run does not wait for.
//
// On top of the budget comes what is on its way to the disk, 2.5 MiB at most, and what a run is
// writing to: 512 bytes for a quiet run,
// 64 KiB for one that floods, 128 KiB while a line lies across two such pieces, 192
// KiB for a moment. Of a run that has ended 4 KiB at most stay in memory come what
// may. Stats counts all this. It does not count 64 KiB for a stream that delivers at
// the moment and as much while a read is compared with the capture; 64 KiB for a
// reader with text that nobody takes; half a MiB while a read differs from the
// capture, or a stream is taken up again; 16 KiB for a run whose times go back; and
// what it takes to keep the books: 0.3 % of what is in the file.
//
// # Kubernetes caveats
//
// The host needs the permission to get pods/log. All seen with v1.36: a stream
// that ends cleanly proves nothing, for the API server drops the kubelet's errors,
// and the kubelet cuts every stream after four hours.
// A request names a container, not a run, so answers are checked for whose log
// they are: by their times, by what was captured of other runs, and, of a run that
// ends in the second in which it began to print and may be restarted, by one or two
// more small requests. A node has some 100 inotify instances for followers; past them the
// capture reads the last lines of the log every second or two, and looks every
// minute or so whether a stream can be had again. Logs are readable until the pod is
// deleted, not after: call Drain first.
//
// Of a container that has ended, refusals are waited out for as long as they may pass: ten
// minutes where a kubelet or the API server is out of reach; one where the kubelet does not
// know the container (yet) or fails to read its log; ten seconds where reading logs is
// forbidden, for roles and tokens that are new take seconds, or where the runtime, which may
// restart, does not have the container, but one where its next run has ended, too, for the
// kubelet keeps one dead container of a slot; five seconds where whoever
// answers serves no logs at all (405, 501 and their like, as of virtual kubelets without
// logs). Then the run is Incomplete, and its certificate says why.
//
// # Testing
//
// Write an [Opener] by hand, feed Handle with pods. Everything runs in a
// testing/synctest bubble.
package logstream
