package broker

import (
	"math"
	"strconv"

	"github.com/merlinmq/merlin/message"
)

// What an exponential policy has where it does not say, as in Apache's broker.
const (
	retryInitialMs  = 5_000
	retryMaxMs      = 7_200_000
	retryMultiplier = 2
)

// maxRetrySteps bounds a customized policy.
const maxRetrySteps = 256

// checkPolicy refuses a policy that cannot be meant, and fills in what an
// exponential one does not say.
func checkPolicy(group string, p *RetryPolicy) error {
	switch p.Type {
	case "", RetryCustomized:
		p.Type = RetryCustomized
		if len(p.Next) > maxRetrySteps {
			return refuse(KindInvalidParameter, "the customized retry policy of the group %s has %d steps; %d are allowed", group, len(p.Next), maxRetrySteps)
		}
		for i, ms := range p.Next {
			if ms < 0 {
				return refuse(KindInvalidParameter, "step %d of the customized retry policy of the group %s is %d; write milliseconds, 0 or more", i, group, ms)
			}
		}
	case RetryExponential:
		if p.InitialMs < 0 || p.MaxMs < 0 || p.Multiplier < 0 {
			return refuse(KindInvalidParameter, "the exponential retry policy of the group %s has the initial wait %d ms, the longest %d ms and the multiplier %d; none may be negative", group, p.InitialMs, p.MaxMs, p.Multiplier)
		}
		p.InitialMs, p.MaxMs, p.Multiplier = orDefault(p.InitialMs, retryInitialMs), orDefault(p.MaxMs, retryMaxMs), orDefault(p.Multiplier, retryMultiplier)
		if p.InitialMs > p.MaxMs {
			return refuse(KindInvalidParameter, "the exponential retry policy of the group %s begins with %d ms, which is more than its longest wait of %d ms", group, p.InitialMs, p.MaxMs)
		}
	default:
		return refuse(KindInvalidParameter, "the retry policy %q of the group %s is neither CUSTOMIZED nor EXPONENTIAL", p.Type, group)
	}
	return nil
}

func orDefault(n, other int64) int64 {
	if n == 0 {
		return other
	}
	return n
}

// wait returns how long a message that was given back so often before waits, in
// ms. own is false if the policy says nothing, so that the delay levels count.
// The first retry takes the third step of a customized policy, as in Apache's
// broker: its default list is that of the levels, which begins with level 3.
func (p *RetryPolicy) wait(before int32) (ms int64, own bool) {
	before = max(before, 0)
	if p.Type == RetryExponential {
		initial, most, factor := orDefault(p.InitialMs, retryInitialMs), orDefault(p.MaxMs, retryMaxMs), orDefault(p.Multiplier, retryMultiplier)
		ms := float64(initial) * math.Pow(float64(factor), float64(min(before, 32)))
		return int64(min(ms, float64(most))), true
	}
	if len(p.Next) == 0 {
		return 0, false
	}
	return p.Next[min(int(before)+2, len(p.Next)-1)], true
}

// afterWait returns properties of a retry that comes after so many ms: exactly,
// or, where messages for an instant are not taken, with the next higher level.
func (b *Broker) afterWait(p message.Properties, ms int64) message.Properties {
	p = p.Without(message.PropDelay, message.PropTimerDelaySec, message.PropTimerDelayMs, message.PropTimerDeliverMs,
		message.PropStartDeliverTime, message.PropTimerOutMs)
	if b.cfg.Timer {
		ms = min(ms, b.cfg.TimerMaxDelaySec.Load()*1000)
		return p.Append(message.PropTimerDeliverMs, strconv.FormatInt(b.now().UnixMilli()+ms, 10))
	}
	level := 1
	for level < len(b.cfg.DelayLevels) && b.cfg.DelayLevels.Delay(level).Milliseconds() < ms {
		level++
	}
	return p.Append(message.PropDelay, strconv.Itoa(level))
}

// directRetry applies the group's policy to a retry that a client sends itself,
// with the level that clients take by default.
func (b *Broker) directRetry(g *Group, r *SendRequest, m *message.Message) {
	ms, own := g.RetryPolicy.wait(r.ReconsumeTimes - 1)
	level, _ := m.Properties.Get(message.PropDelay)
	if own && numberOr(level, -1) == int64(firstRetryLevel+r.ReconsumeTimes-1) {
		m.Properties = b.afterWait(m.Properties, ms)
	}
}
