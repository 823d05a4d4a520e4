package connector

// bucket is a token bucket that refills by the wheel's ticks.
type bucket struct {
	tokens float32
	at     uint32 // 0: full
}

func (b *bucket) take(now uint32, perSecond, burst int) bool {
	if perSecond < 0 {
		return true
	}
	if b.at == 0 {
		b.tokens = float32(burst)
	} else {
		b.tokens = min(b.tokens+float32(now-b.at)*float32(perSecond)*float32(tickTime.Seconds()), float32(burst))
	}
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
