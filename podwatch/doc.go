// Package podwatch keeps one watch for all the pods of a program, and tells
// handlers of single pods what happened to them, in order, without ever
// claiming to know more than it does.
//
// It is for programs that run work in pods: CI executors, job runners, log
// tailers. It is not a cache to query with selectors, nor a controller
// framework: there is no work queue and nothing is ever written to the cluster.
//
// # What it does
//
// A [Watcher] runs one list and watch of pods and one of Events for its scope (a
// namespace or all, and a label selector; or one pod), however many pods are
// tracked. [Watcher.Track] gives handlers to a pod that is about to be created, so
// that they miss nothing of its life; [Watcher.TrackPod] to one that exists:
//
//	w, err := podwatch.New(client, podwatch.Options{Namespace: "ci", LabelSelector: "worker=me"})
//	…
//	go w.Run(life) // a context that ends after the last build, see below
//	t, err := w.Track("ci", "build-1", handler)
//	…
//	pod, err := client.CoreV1().Pods("ci").Create(ctx, spec, metav1.CreateOptions{})
//	…
//	t.Created(pod) // until now the handler has heard of no pod
//
// A tracking speaks of one pod, by its UID. Pods are recreated under their names,
// and the one that is there when a build begins may be left over from the last: it
// may have ended, be running, or be being deleted. Created says which pod is meant;
// until then the tracking is about none.
//
// # The life of a watch
//
// The context of [Watcher.Run] is the watch's life. When it ends every tracking
// ends, whatever its pod does: handlers hear [Closed], which ends the waits of an
// eventsplit.Splitter and the readers of a logstream.Capture with what they have. A
// program that is told to stop ends its builds first, draining their logs, and then
// that context; it must not be the one that a signal or a build's timeout ends.
//
// [New] owns its informers; [FromInformers] uses those that a host runs anyway.
//
// # Guarantees
//
//   - Handlers of a tracking are called in the order given, one call at a time,
//     never with a lock of this package held. Versions of a pod come in the order
//     of the watch, none twice; the newest is never withheld for good.
//   - A pod is Added once, with the newest version that is known by then, and Deleted
//     at most once, with its last known state, however its end became known: the watch
//     showed the deletion, a later list lacked the pod, or another pod has its name.
//   - Before [Tracking.Created] handlers hear of no pod, and [Tracking.Pod] is nil;
//     after it, of the pod of that UID alone. Of a leftover of the same name they hear
//     nothing, whether it was there when tracking began, comes on the watch later, or
//     is shown only after Created's pod was made. Of Created's own pod nothing is
//     lost: Created hands on its newest version, the Events about it, and its end if
//     the watch has shown that already. A pod that came and went while the watch was
//     down is found gone, by one live GET, once the cache has reached the pod's
//     resourceVersion without it.
//   - Leaving the label selector is [OutOfScope], not Deleted. A real deletion
//     carries a deletionTimestamp and a grace period of 0. Where the last version has
//     not, one live GET finds out, off the watch's goroutine, whether the pod is gone;
//     a scope without a selector cannot be left, and needs no GET.
//   - Events go by the UID of the pod that they are about: those of an earlier
//     pod of the name never appear. Events that come before their pod is known
//     are held back (the newest 256 of each pod), and a tracking that begins
//     late is handed those that the API server still has.
//   - When contact with the API server is lost (a request fails, is not answered
//     for 5 s, or a watch breaks) all handlers hear [Stale], also those of trackings
//     that begin later. [Fresh] comes when the watch is back: after all that was missed
//     where a new list was needed, else a second after the watch has resumed.
//   - When the API server refuses (401, 403) to list or watch pods for
//     [Options].Refusal, 15 s, without another answer in between, all handlers hear its
//     own words, in a status of Reason Forbidden or Unauthorized, also those of
//     trackings that begin later. Run keeps asking; Fresh takes the refusal back.
//   - The last call is [Closed], whether [Tracking.Close] or the end of
//     [Watcher.Run] caused it. Close returns at once; [Tracking.Done] is closed when
//     the last call has returned. After Run has returned no goroutine of this package
//     is left.
//
// # Non-guarantees
//
//   - Not every version is seen: the API server, a list after trouble, and a slow
//     handler skip some. Handlers take each version as the whole truth.
//   - There is no order between a pod's versions and the Events about it: they
//     are two watches, and Kubernetes itself promises none.
//   - Events are best effort in Kubernetes: after 25 about one pod the kubelet
//     drops most, and those of ten containers already exceed that. An Event may
//     explain; its absence means nothing. When the API server forgets an Event (after
//     an hour, by default) handlers do not hear of it.
//   - The end of a pod that is out of scope is not seen: after [OutOfScope] no
//     Deleted comes, unless another pod takes its name. [Tracking.Confirm] tells.
//   - Without permission to get pods, a pod that is absent from a list counts as
//     deleted, though it may have left the selector.
//   - FromInformers cannot see trouble: no Stale, no Fresh, no refusal, no notices
//     of them. Its pods contain what the host's transform leaves.
//   - A host that never calls Created hears of no pod. [NoticeUnclaimed] tells, when
//     a pod of the name has been there for 30 s.
//   - When the watch shows a pod's end before Created names the pod, its last state is
//     known if at most 8 pods of the name have ended since Track. Else a live GET finds
//     the end, and the last state is what Created was given.
//   - An end of stream that a proxy hides is noticed after the watch's own
//     deadline, 5 to 10 minutes, plus 30 s; nothing says Stale meanwhile.
//     (HTTP/2 notices a dead connection after 45 s.)
//   - A pod that Create returned and the watch never shows, behind an API server
//     that sends no bookmarks, stays unsettled until the next change in the
//     scope.
//
// # Concurrency
//
// All methods may be called from many goroutines, Track and Close also within
// handlers. A goroutine delivers for a tracking only while something waits for
// it; an idle tracking has none. Objects handed on are shared with the cache:
// they may be kept, and must not be changed. A panic in a handler is not
// recovered: it ends the process.
//
// [Options.OnPod] and the informers' callbacks run on client-go's goroutine;
// they do no I/O and call no handler. [Options.Notify] is called by one goroutine,
// which exists while there is something to tell: one call at a time, in the order
// in which things happened, and none after Run has returned.
//
// # Backpressure
//
// The watch never waits for a handler. For every tracking there is a mailbox. In
// it a newer version of a pod replaces the one that waits (counted as
// [Stats].Coalesced), a repetition replaces its Event, and at most 256 Events
// wait: then the oldest is dropped (counted as Dropped). Ends of pods are never
// replaced or dropped. Where a pod left the selector and came back, or contact was
// lost and regained, before the handler took either, it hears of neither.
// A handler that blocks delays its own tracking, its Done, and Run's return:
// nothing else. A Notify that blocks delays other notices and Run's return; at most
// 1,024 wait, then the oldest is dropped (counted as NoticesDropped).
//
// # Kubernetes caveats
//
//   - Select by labels that stay: with a selector on a field or label that
//     changes, a pod's last version is the one before the change.
//   - Labels do not select Events: the Event watch is of all pods in the
//     namespace (of one pod with Options.Name), has no watch cache in the API
//     server, and holds some 700 bytes for each Event of the last hour. Where
//     that is too much use [EventsOff]. Events that name no UID are ignored, and
//     those about static pods name another UID than the API's.
//   - The first list is asked for at resourceVersion 0, and WatchList is not
//     used: where a proxy swallows the bookmark that ends its initial events, such
//     an informer waits for ever (client-go v0.35 and later use it by default).
//   - After trouble, and after a refusal (401, 403), requests are repeated after at
//     most 12 s, where a bare informer takes up to a minute. So does this package where
//     the client may list pods and not watch them. A refused list of Events is repeated
//     after 5 minutes.
//   - The client's Timeout must be zero, else every watch ends with it.
//   - client-go logs through klog: a line about a list that takes more than 10 s,
//     and what it can do nothing about. The library avoids what it can; for the
//     rest give Run a context with a logger (klog.NewContext). Nothing here logs.
//   - RBAC: list and watch on pods, list and watch on events (optional), get on
//     pods.
//   - Client-go's fake clientset gives pods neither UID nor resourceVersion, so
//     that identity goes by name alone there, a leftover cannot be told from the
//     created pod, and its watch ignores selectors.
//
// # Testing
//
// A handler is a function of watch.Event: test it by calling Handle. The
// package's own behaviour can be had in virtual time: all timing is by package
// time and works inside a testing/synctest bubble with a client whose transport
// is in memory. What a Watcher tells of itself is in [Watcher.Stats] and
// [Options.Notify].
package podwatch
