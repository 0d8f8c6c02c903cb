// Command pause is what the placeholder image runs: it ignores its arguments,
// waits to be told to stop and exits 0. The cluster also runs it on the host, to
// hold the mount namespace open that its other programs share.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
}
