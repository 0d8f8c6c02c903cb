// Package eventsplit tells, from the Pod and Event objects of one pod, what
// happened to each of its containers, and why one will never run.
//
// # What it does
//
// A [Splitter] is fed with watch events by [Splitter.Handle] and keeps, for every
// container (a slot, by its name) and for the pod (slot ""), a [State] and a
// timeline of [Entry] values. [Splitter.State] answers from memory.
// [Splitter.Wait] waits for any predicate over a State, [Started] and [Ended] among
// them, returns the State's [*Failure] as its error, and ends as soon as the predicate
// can never hold.
// [Splitter.Entries] replays and follows a timeline. [Splitter.Swap] starts a step
// where a placeholder runs, by patching its image, and makes sure that the two are
// never taken for each other. [Splitter.IsPlaceholder] and [Splitter.NextRun] make
// it the logstream package's Runs. [Classify] and [ClassifyAPIError] are pure functions that
// put trouble into words and classes.
//
// A run is one life of a slot. It is known by its containerID, never by the image
// string and never by restartCount, which the kubelet recomputes. Only where nobody
// gives it a containerID (virtual kubelets, fakes, an init container of which the
// kubelet knows just that it must have succeeded) restartCount has to do: such a run
// starts and ends as any other, NextRun leaves it out, and Swap refuses to replace it.
//
// It is not for many pods at once (have one Splitter for each), and it does not
// watch: package podwatch does, or an informer of yours.
//
// # Guarantees
//
//   - Whatever the order, repetition or loss of what is handled, a run is told to
//     have started at most once and to have ended at most once, in this order. A run
//     nobody saw running is told with a start that is marked Synthesised, and a Wait
//     for it is answered. Runs that came and went unseen are counted in an Entry.
//   - State never speaks of a placeholder, and the placeholder's exit code is never
//     a step's. A swap whose new image was not started is a Failure. It names the
//     Warning Event's words when that comes within 2 s of the status, and else says
//     that Kubernetes gave no reason.
//   - A Failure in a State is never taken back: Wait, State and NextRun agree for good.
//     Wait returns it as its error, whatever the exit code beside it is.
//   - A final State is final, the pod's too: whatever comes later changes neither its
//     Outcome nor its Failure.
//   - What Events and conditions said of a container or the pod is said no longer than
//     until its cure shows, and at the latest some minutes later (docs/failures.md).
//   - While the API server refuses the watch, what waits ends with its refusal, which
//     is no verdict: State has no Failure, and waiting may be tried again.
//   - What ends with its context ends with a [*WaitError], which says what was waited
//     for and why.
//     Ended holds only with a known Outcome; a run whose end nobody saw (the kubelet's
//     ContainerStatusUnknown with exit code 137, containerd's Unknown with 255, a pod
//     that vanished) has a Failure and no Outcome. One whose container is gone from
//     the node is not Running: it waits to be started again, and Policy is asked; where
//     its restartPolicy starts nothing again, it is lost.
//   - Nothing waits for ever for a container that cannot come: a pod that was
//     deleted, evicted, refused by its node or left the watch's scope, an init
//     container that failed, a slot that the pod does not have all end the wait.
//   - Memory is bounded: Options.Buffer entries a slot, 1,024 runs a slot, 1,024
//     Events to recognise repetitions by.
//
// # Non-guarantees
//
//   - Events explain, they never decide. The kubelet drops them beyond 25 for a pod
//     and type, and their order to the status that they explain is undefined; a
//     failed swap is told by the status alone.
//   - States between two versions of a pod are not seen. What must have been is
//     synthesised; how long it took is not known.
//   - The image must be patched through Swap. A patch by someone else is
//     recognised when the placeholder was seen running before it; a patch that came
//     earlier cannot be told from a placeholder, and then the first run counts as one.
//   - A Splitter that did not see a slot before its first run knows of it only what
//     the status holds: see below.
//   - Final is Kubernetes' promise, not ours: a restartPolicy that would not restart a
//     container.
//
// # A Splitter that is made later
//
// An executor that was restarted makes a Splitter for a pod whose images may have been
// patched already. Whose a run is, in a slot that Options.Placeholder declares, then
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
// What can restart a container is its own restartPolicy (empty is Always) and rules,
// with the exit code of the run before where that is known, a rule of any container
// that restarts all of them, and that it is gone from the node. A Splitter that made the
// swap goes by the second half of the table, too: the kubelet may restart the placeholder
// from the old image after the patch was stored. Where a fake pod has no imageIDs, what
// follows a patch is the step's. An unknown run is told
// as a step's and captured, but it never has an Outcome: it ends with a Failure
// (CauseUnattributed). A placeholder that ends for good is a failed swap if within 2 s
// an Event says why the new image cannot be had, and else a Failure with that cause.
//
// # Concurrency
//
// All methods may be called from any goroutine. Handle does not block. The
// Splitter has no goroutine of its own, only one timer while a grace period runs,
// which Close stops. Options' functions and Wait's predicates are called with no lock
// held and may ask the Splitter. What States, Entries and Failures point to is shared
// and read-only; objects given to Handle are kept and must not be changed.
//
// # Backpressure
//
// There is none: nobody who reads or waits slows Handle. A reader of Entries that is
// slower than its ring is long gets an Entry with Dropped. A Wait sees every state,
// however small the ring is, as long as its predicate does not block for a thousand of them.
//
// # Kubernetes caveats
//
// Seen on real kubelets, v1.34 to v1.37:
//
//   - With restartPolicy Never, a container patched to an image that cannot be
//     pulled is published as Terminated, exit code 0, reason Completed, of the old
//     image; when it was the last one, the pod's phase is Succeeded. In a good swap
//     Terminated is never published of the placeholder.
//   - Patched before the placeholder ran, a good and a bad image give the same
//     statuses. So Swap holds the patch back until the placeholder runs: once a pod,
//     0.3 s on an idle node, and seconds on a busy one or in a pod of many containers,
//     which the kubelet starts one after the other.
//   - restartCount is 0 when the patch came before the first start, and an image that
//     is another tag of the old one's shows the old one's name.
//   - A patch that changes nothing makes no watch event.
//   - The message of ImagePullBackOff has the registry's words from v1.31 on only; the
//     ErrImagePull before it, or the Event, is remembered for its sake.
//   - A container that the runtime cannot start (StartError, exit code 128) is a run
//     with an ID of its own that ended and never started: it has an Outcome and a
//     Failure.
//   - Eviction can end in exit code 0, when the process obeys SIGTERM: a run that
//     ended after the pod's disruption was announced has a Failure beside its Outcome.
//   - When a container is removed behind the kubelet's back, its status shows the run
//     before it as ended, a step's placeholder with exit code 0: that is not the end of
//     the run that was removed, which is lost (v1.37). A Splitter that did not see that
//     run knows so only where restartPolicy and rules restart nothing.
//   - Plain init containers are not restarted by a new image, and Swap refuses them.
//
// # Testing
//
// Nothing here needs a cluster: hand Handle the pods and Events that a test is
// about. Time is the time package's, so testing/synctest makes grace periods pass at
// once; Close the Splitter within the bubble.
//
// A fake pod may lack much of what a cluster's has:
//
//   - resourceVersion: without one, with one that never changes, or with versions
//     that cannot be compared, what comes later is newer. It never takes back a swap,
//     a Failure or the end of a run. Versions that can be compared and differ may come
//     in any order.
//   - UID: all pods of the name are one.
//   - spec.containers: the containers are those that the statuses name.
//   - spec.restartPolicy: it is Always, as the API server makes it. Such a container
//     ends, but not for good as long as the pod lives: Wait for Ended returns, while a
//     Wait for what cannot come, Entries, NextRun and the log's readers go on.
//   - status.phase, times, reasons, restartCount: nothing is missed but what they say.
//     Without times a run that ended in a pod that is being deleted counts as ended by
//     that.
//   - containerStatuses before the end: the start is synthesised. Swap waits for one
//     that shows its placeholder running.
//   - state.terminated.containerID: status.containerID serves, unless the reason is
//     the kubelet's own for a run that it lost. In a swapped slot it does not say whose
//     end it is, and the run is lost (ClassLost).
//   - any containerID: the container starts and ends, told apart by restartCount;
//     Swap refuses it, and it has no log to be captured.
package eventsplit
