package nodelog

import (
	"math/rand/v2"
	"time"
)

// Clock is that of a container runtime: the time of the container's i-th record, which
// goes to its file-th file, both from 0. It is called by one goroutine at a time.
type Clock func(now time.Time, i, file int) time.Time

// Containerd gives every record a time of its own: it asks the clock for each
// (containerd internal/cri/io/logger.go).
func Containerd(*rand.Rand) Clock {
	return func(now time.Time, i, _ int) time.Time { return now.Add(time.Duration(i) * time.Microsecond) }
}

// Conmon gives all records of one read(2) of the output the same time (containers/conmon
// src/ctr_logging.c:491), and turns to another file between two. It is the logger of
// CRI-O.
func Conmon(rng *rand.Rand) Clock {
	var last time.Time
	in := 0
	return func(now time.Time, i, file int) time.Time {
		if now.Sub(last) > time.Second || rng.IntN(8) == 0 || file != in {
			in, last = file, now.Add(time.Duration(i)*time.Microsecond)
		}
		return last
	}
}

// BothStreams is Containerd of a container that writes to stdout and stderr, which two
// goroutines stamp: the order in the file is not that of the times
// (containerd internal/cri/io/logger.go:133-153).
func BothStreams(rng *rand.Rand) Clock {
	return func(now time.Time, i, _ int) time.Time {
		return now.Add(time.Duration(i)*time.Microsecond - time.Duration(rng.IntN(5000))*time.Microsecond)
	}
}

// SetBack is that of a node whose clock is set back once.
func SetBack(rng *rand.Rand) Clock {
	step := rng.IntN(60)
	return func(now time.Time, i, _ int) time.Time {
		if i >= step {
			now = now.Add(-30 * time.Second)
		}
		return now.Add(time.Duration(i) * time.Microsecond)
	}
}

// Zoned is that of a node that is not in UTC.
func Zoned(rng *rand.Rand) Clock {
	zone := time.FixedZone("", (rng.IntN(27)-12)*3600+rng.IntN(2)*1800)
	return func(now time.Time, i, _ int) time.Time { return now.Add(time.Duration(i) * time.Microsecond).In(zone) }
}

// SummerTime is that of a node in a country where summer time begins.
func SummerTime(rng *rand.Rand) Clock {
	leap := rng.IntN(60)
	return func(now time.Time, i, _ int) time.Time {
		now = now.Add(time.Duration(i) * time.Microsecond)
		if i >= leap {
			return now.In(time.FixedZone("", 3600))
		}
		return now.UTC()
	}
}
