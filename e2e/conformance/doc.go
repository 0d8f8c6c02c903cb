// Package conformance holds logstream to its word against the code that kubelets
// serve logs with: k8s.io/cri-client/pkg/logs.ReadLogs of Kubernetes v1.36.3, over
// log files that the tests write and rotate as container runtimes and kubelets do,
// behind an HTTP server that passes bodies on as an API server does.
//
// No cluster is needed. The tests run in two ways:
//
//	go test ./...                                    # in real time, with inotify
//	go test -modfile=virtual.mod -tags=virtual ./... # in virtual time
//
// ReadLogs waits in inotify and in timers of seconds, so in real time only some
// hundred random lives of containers fit into a minute. For the second way the
// module beside this file stands in for github.com/fsnotify/fsnotify, in memory; with
// it ReadLogs runs in a testing/synctest bubble, and thousands of lives fit.
//
// Seeds are printed; -seed and -trials say which lives to play, and how many. Without,
// they are always the same: new ones are found with many trials and -seed 0.
package conformance
