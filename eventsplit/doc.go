// Package eventsplit tells, from the Pod and Event objects of one pod, what happened to
// each of its containers, and why a container will never run.
//
// # What it does
//
// [Splitter.Handle] takes in watch events. For every container (a slot, by its name) and
// for the pod (slot "") a [Splitter] keeps a [State] and a timeline of [Entry] values.
//
//   - [Splitter.State] answers from memory.
//   - [Splitter.Wait] waits for any predicate over a State, [Started] and [Ended] among
//     them. It returns the State's [*Failure] as its error, and ends as soon as the predicate
//     can never hold.
//   - [Splitter.Entries] replays a timeline and follows it.
//   - [Splitter.Swap] starts a step where a placeholder runs: it patches the image, and makes
//     sure that the two are never confused.
//   - [Splitter.IsPlaceholder] and [Splitter.NextRun] make a Splitter the Runs of package
//     logstream.
//   - [Classify] and [ClassifyAPIError] are pure functions that give a trouble its class and
//     its words.
//
// A run is one life of a container, from its start to its end. Its containerID identifies
// it; the name of the image does not, nor does restartCount, which the kubelet recomputes.
// Only where no status gives a containerID (virtual kubelets, fakes, an init container of
// which the kubelet only knows that it must have succeeded) restartCount stands for it: such
// a run starts and ends as any other, NextRun leaves it out, and Swap refuses to replace it.
//
// One Splitter is for one pod. It does not watch: package podwatch does, or an informer of
// yours.
//
// # Guarantees
//
//   - Whatever the order, repetition or loss of what Handle is given, a timeline tells the
//     start of a run at most once, and then its end at most once. The start of a run that no
//     status showed running is marked Synthesised, and a Wait for it is answered. An Entry
//     counts the runs that came and went unseen.
//   - State never tells of a placeholder, and never gives a placeholder's exit code as that
//     of a step. A swap whose new image was not started is a Failure. The Failure quotes the
//     Event that says why, if the Event comes within 2 s of the status, and else says that
//     Kubernetes gave no reason.
//   - A Failure in a State is never taken back. Wait, State and NextRun agree on it for good.
//     Wait returns it as its error, whatever the exit code beside it is.
//   - A final State is final, the pod's too: nothing that comes later changes its Outcome or
//     its Failure.
//   - What Events and conditions say of a container or the pod holds until its cure shows,
//     and at most some minutes (docs/failures.md).
//   - While the API server refuses the watch, everyone who waits gets the refusal as an
//     error. The State has no Failure then, and the wait may be tried again.
//   - A wait that ends with its context returns a [*WaitError], which says what was waited
//     for and why that had not come.
//   - Ended holds only with a known Outcome. A run whose end nobody knows (the kubelet's
//     ContainerStatusUnknown with exit code 137, containerd's Unknown with 255, a pod that
//     vanished) has a Failure and no Outcome. A container that is gone from its node is not
//     Running: it waits to be started again, and Options.Policy is asked; where its
//     restartPolicy starts nothing again, its run is lost.
//   - Nothing waits for ever for a container that cannot come: the wait ends when the pod was
//     deleted, evicted, refused by its node or left the watch's scope, when an init container
//     failed, and when the pod has no such container.
//   - Memory is bounded: Options.Buffer entries and 1,024 runs of each slot, and 1,024 Events
//     to recognise repetitions.
//
// # Non-guarantees
//
//   - Events explain, they never decide. The kubelet drops Events beyond 25 of a pod and type,
//     and an Event may come before or after the status that it explains. The status alone
//     tells of a failed swap.
//   - States between two versions of a pod are not seen. What must have been is synthesised;
//     how long it lasted is not known.
//   - The image has to be patched through Swap. A patch by someone else is recognised when
//     the placeholder was seen running before it. After an earlier patch the first run counts
//     as the placeholder.
//   - A Splitter that did not see a slot before its first run knows only what the status
//     holds: see below.
//   - Final is Kubernetes' promise, not this package's: it relies on a restartPolicy that
//     restarts nothing.
//
// # A Splitter that is made later
//
// An executor that was restarted makes a Splitter for a pod whose images may have been
// patched already. To whom a run belongs, in a slot that Options.Placeholder declares, then
// follows from what the status holds:
//
//	the run that is seen first                                   it is
//	restartCount 0, no lastState                                 the placeholder's
//	restartCount above 0, nothing can have restarted it          the step's
//	restartCount above 0, something can have                     unknown
//	the run in lastState, or before                              the placeholder's
//
//	the run that follows a placeholder's                         it is
//	the image was patched meanwhile, and the imageID differs     the step's
//	nothing can have restarted the placeholder                   the step's
//	its imageID differs from the placeholder's                   the step's
//	anything else, while a Swap of the slot waits for a run      the placeholder's
//	anything else                                                unknown
//
// A container can be restarted by its own restartPolicy (empty is Always) and rules, with
// the exit code of the run before where that is known; by a rule of any container that
// restarts all of them; and because it is gone from its node. The second half of the table
// also holds for a Splitter that made the swap, because the kubelet may restart the
// placeholder from the old image after the patch was stored. Where a fake pod has no
// imageIDs, the run after a patch is the step's.
//
// An unknown run is told as a step's and its log is captured, but it never has an Outcome:
// it ends with a Failure (CauseUnattributed). A placeholder that ends for good is a failed
// swap if within 2 s an Event says why the new image cannot be had, and else a Failure with
// that cause.
//
// # Concurrency
//
// All methods may be called from any goroutine. Handle does not block. A Splitter has no
// goroutine, only one timer while a grace runs, which Close stops. The functions in Options
// and the predicates of Wait are called while no lock is held, and may call the Splitter.
// What States, Entries and Failures point to is shared and must not be changed; Handle keeps
// the objects that it is given, and they must not be changed either.
//
// # Backpressure
//
// There is none: nobody who reads or waits slows Handle. A reader of Entries that is slower
// than its ring is long gets an Entry with Dropped. A Wait sees every State, however small
// the ring is, as long as its predicate does not block for a thousand of them.
//
// # Kubernetes caveats
//
// Seen on real kubelets, v1.34 to v1.37:
//
//   - With restartPolicy Never, a container that was patched to an image that cannot be
//     pulled is published as Terminated, exit code 0, reason Completed, of the old image; if
//     it was the last one, the pod's phase is Succeeded. In a good swap the kubelet never
//     publishes Terminated of the placeholder.
//   - After a patch before the placeholder ran, a good and a bad image give the same
//     statuses. So Swap waits until the placeholder runs: once a pod, 0.3 s on an idle node,
//     and seconds on a busy node or in a pod of many containers, which the kubelet starts one
//     after the other.
//   - restartCount is 0 when the patch came before the first start. An image that is another
//     tag of the old one may show the old one's name.
//   - A patch that changes nothing makes no watch event.
//   - Only since v1.31 the message of ImagePullBackOff has the registry's words; a Splitter
//     remembers the ErrImagePull before it, or the Event.
//   - A container that the runtime cannot start (StartError, exit code 128) is a run with an
//     ID that ended and never started: it has an Outcome and a Failure.
//   - An eviction can end in exit code 0, when the process obeys SIGTERM. A run that ended
//     after the pod's disruption was announced has a Failure beside its Outcome.
//   - When a container is removed behind the kubelet's back, its status shows the run before
//     as ended, a step's placeholder with exit code 0 for instance. That is not the end of the
//     run that was removed, which is lost (v1.37). A Splitter that did not see that run knows
//     so only where restartPolicy and rules restart nothing.
//   - A new image does not restart a plain init container, and Swap refuses it.
//
// # Testing
//
// Nothing here needs a cluster: give Handle the pods and Events that a test is about. Time
// is that of package time, so graces pass at once in testing/synctest. Close the Splitter
// within the bubble.
//
// A fake pod may lack much of what a cluster's pod has:
//
//   - resourceVersion: without one, with one that never changes, or with versions that cannot
//     be compared, what comes later is newer. It never takes back a swap, a Failure or the end
//     of a run. Versions that can be compared and differ may come in any order.
//   - UID: all pods of the name are one.
//   - spec.containers: the containers are those that the statuses name.
//   - spec.restartPolicy: it is Always, which the API server sets. Such a container ends, but
//     not for good as long as the pod lives: a Wait for Ended returns, while a Wait for what
//     cannot come, Entries, NextRun and the readers of the log go on.
//   - status.phase, times, reasons, restartCount: only what they say is missing. Without
//     times, a run that ended in a pod that is being deleted counts as ended by the deletion.
//   - containerStatuses before the end: the start is synthesised. Swap waits for a status
//     that shows its placeholder running.
//   - state.terminated.containerID: status.containerID stands for it, unless the reason is
//     the kubelet's own for a run that it lost. In a swapped slot it does not say whose end it
//     is, and the run is lost (ClassLost).
//   - any containerID: the container starts and ends, and restartCount tells its runs apart;
//     Swap refuses it, and its log cannot be captured.
package eventsplit
