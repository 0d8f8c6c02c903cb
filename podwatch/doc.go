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
// tracked. [Watcher.Track] hands a pod, by name and before it exists if need be,
// to handlers of that pod:
//
//	w, err := podwatch.New(client, podwatch.Options{Namespace: "ci", LabelSelector: "worker=me"})
//	…
//	go w.Run(ctx)
//	t, err := w.Track("ci", "build-1", handler)
//	…
//	pod, err := client.CoreV1().Pods("ci").Create(ctx, spec, metav1.CreateOptions{})
//	…
//	t.Created(pod)
//
// [New] owns its informers; [FromInformers] uses those that a host runs anyway.
//
// # Guarantees
//
//   - Handlers of a tracking are called in the order given, one call at a time,
//     never with a lock of this package held. Versions of a pod come in the order
//     of the watch, none twice; the newest is never withheld for good.
//   - A pod is Added once, with its first version, and Deleted at most once, with
//     its last known state, however its end became known: a deletion seen,
//     missed (the pod was absent from a later list), or by another pod under its
//     name. Then Deleted comes before the Added of the other.
//   - After [Tracking.Created] the tracking speaks of the pod of that UID alone.
//     A pod of the same name that is still in the cache answers nothing; a pod
//     that came and went while the watch was down is found gone. That takes one
//     live GET, made once the cache has reached the pod's resourceVersion
//     without it.
//   - Leaving the label selector is [OutOfScope], not Deleted. A real deletion
//     carries a deletionTimestamp and a grace period that has come to 0. An end
//     without them is settled by one live GET, off the watch's goroutine; where
//     the scope has no selector to leave, without it.
//   - Events go by the UID of the pod that they are about: those of an earlier
//     pod of the name never appear. Events that come before their pod is known
//     are held back (the newest 256 of each pod), and a tracking that begins
//     late is handed those that the API server still has.
//   - When contact with the API server is lost (a request fails, is not answered
//     for 5 s, or a watch breaks) handlers hear [Stale], one that begins later
//     included; [Fresh] comes when the watch is back: behind all that was missed
//     when a new list was needed, else a second after the watch has resumed.
//   - The last call is [Closed], whether [Tracking.Close] or the end of
//     [Watcher.Run] caused it. After Close has returned no call comes; after Run
//     has returned no goroutine of this package is left.
//
// # Non-guarantees
//
//   - Not every version is seen: API servers, lists after trouble and slow
//     handlers skip some. Handlers must take each version as the whole truth.
//   - There is no order between a pod's versions and the Events about it: they
//     are two watches, and Kubernetes itself promises none.
//   - Events are best effort in Kubernetes: after 25 about one pod the kubelet
//     drops most, and those of ten containers already exceed that. An Event may
//     explain; its absence means nothing. That the API server forgot one (after
//     an hour, by default) is not handed on.
//   - The end of a pod that is out of scope goes by unseen: after [OutOfScope] no
//     Deleted comes, unless another pod takes its name. [Tracking.Confirm] tells.
//   - Without permission to get pods, a pod that is absent from a list counts as
//     deleted, though it may have left the selector.
//   - FromInformers cannot see trouble: no Stale, no Fresh, no notices of them.
//     What its pods contain is what the host's transform leaves.
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
// they do no I/O and call no handler. Notices come from several goroutines.
//
// # Backpressure
//
// The watch never waits for a handler. For every tracking there is a mailbox. In
// it a newer version of a pod replaces the one that waits (counted as
// [Stats].Coalesced), a repetition replaces its Event, and at most 256 Events
// wait: then the oldest is dropped (counted as Dropped). Ends of pods are never
// replaced or dropped. A pod that left the selector and came back, or contact
// that was lost and regained, before the handler heard of it, is not mentioned.
// A handler that blocks delays its own tracking, its Close, and Run's return:
// nothing else.
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
//   - After trouble requests are repeated after at most 12 s; a bare informer
//     takes up to a minute, and so does a refused (401, 403) request for pods. A
//     refused Event list is repeated in 5 minutes.
//   - The client's Timeout must be zero, else every watch ends with it.
//   - client-go logs through klog: a line about a list that takes more than 10 s,
//     and what it can do nothing about. The library avoids what it can; for the
//     rest give Run a context with a logger (klog.NewContext). Nothing here logs.
//   - RBAC: list and watch on pods, list and watch on events (optional), get on
//     pods.
//   - Client-go's fake clientset gives pods neither UID nor resourceVersion, so
//     that identity goes by name alone there, and its watch ignores selectors.
//
// # Testing
//
// A handler is a function of watch.Event: test it by calling Handle. The
// package's own behaviour can be had in virtual time: all timing is by package
// time and works inside a testing/synctest bubble with a client whose transport
// is in memory. What a Watcher tells of itself is in [Watcher.Stats] and
// [Options.Notify].
package podwatch
