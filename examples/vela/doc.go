// Package vela shows how the Vela worker's Kubernetes runtime looks on podlife:
// its engine's methods, each a few lines over podwatch, eventsplit and
// logstream. One [Worker] serves every build of the process; an [Engine] is one
// build. It imports nothing of Vela: [Build] and [Container] mirror the fields
// of its pipeline types that the runtime reads and writes.
package vela
