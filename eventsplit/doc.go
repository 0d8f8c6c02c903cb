// Package eventsplit tells who did what in a pod, per container.
package eventsplit
