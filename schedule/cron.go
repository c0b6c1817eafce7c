package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/merlinmq/merlin/message"
)

// What becomes of firings that were missed.
const (
	MissedSkip = "skip"
	MissedOnce = "once"
	MissedAll  = "all"
)

// PropOperation on a record of the topic of schedules is one of the operations;
// PropState is the state of a schedule whose definition was stored anew.
const (
	PropOperation = "MERLIN_CRON_OP"
	PropState     = "MERLIN_CRON_STATE"
	opRemove      = "remove"
	opPause       = "pause"
	opResume      = "resume"
)

var cronParser = cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// ParseCron reads a cron expression: five fields, or six with seconds in front,
// or a descriptor; CRON_TZ=Zone and a space may stand before it. An expression
// that never fires is refused.
func ParseCron(spec string, now time.Time) (plan cron.Schedule, err error) {
	if strings.HasPrefix(spec, "CRON_TZ=") || strings.HasPrefix(spec, "TZ=") {
		if zone, rest, ok := strings.Cut(spec, " "); !ok || strings.TrimSpace(rest) == "" {
			return nil, fmt.Errorf("%q names a time zone and no times; write for example %q", spec, zone+" 0 9 * * *")
		}
	}
	plan, err = cronParser.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("%q is no cron expression: %w; write minute hour day month weekday, with seconds in front if wanted, for example \"0 9 * * MON-FRI\"", spec, err)
	}
	if plan.Next(now).IsZero() {
		return nil, fmt.Errorf("%q never fires", spec)
	}
	return plan, nil
}

// MaxNameLen is how long the name of a schedule may be, in bytes.
const MaxNameLen = 255

// definition is what the properties of a recurring message say.
type definition struct {
	name, spec   string
	until, count int64
	missed       string
	plan         cron.Schedule
}

func readDefinition(p message.Properties, now time.Time) (d definition, err error) {
	d = definition{name: p.Value(PropCronName), spec: strings.TrimSpace(p.Value(PropCron)), missed: p.Value(PropCronMissed)}
	if d.name == "" {
		d.name = p.Value(message.PropUniqueKey)
	}
	if d.name == "" || len(d.name) > MaxNameLen {
		return d, illegal("%s has %d bytes; 1 to %d are allowed", PropCronName, len(d.name), MaxNameLen)
	}
	if d.plan, err = ParseCron(d.spec, now); err != nil {
		return d, illegal("%s: %s", PropCron, err)
	}
	if text := p.Value(PropCronUntil); text != "" {
		if d.until, err = parseInstant(text); err != nil {
			return d, illegal("%s: %s", PropCronUntil, err)
		}
	}
	if text := p.Value(PropCronCount); text != "" {
		if d.count, err = strconv.ParseInt(text, 10, 64); err != nil || d.count < 1 {
			return d, illegal("%s is %q; write a whole number from 1 on", PropCronCount, clip([]byte(text)))
		}
	}
	switch d.missed {
	case "":
		d.missed = MissedSkip
	case MissedSkip, MissedOnce, MissedAll:
	default:
		return d, illegal("%s is %q; write %s, %s or %s", PropCronMissed, clip([]byte(d.missed)), MissedSkip, MissedOnce, MissedAll)
	}
	return d, nil
}

func parseInstant(text string) (int64, error) {
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 0 {
		return ms, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither milliseconds since 1970 nor a time such as 2030-12-31T23:59:59Z", clip([]byte(text)))
	}
	return t.UnixMilli(), nil
}

// deferRecurring sends m to the topic of schedules.
func (r *Rules) deferRecurring(m *message.Message, now time.Time) (Deferred, error) {
	d, err := readDefinition(m.Properties, now)
	if err != nil {
		return Deferred{}, err
	}
	if d.until > 0 && d.plan.Next(now).UnixMilli() > d.until {
		return Deferred{}, illegal("%s is before the first firing of %q", PropCronUntil, d.spec)
	}
	m.Properties = withReal(m.Properties, m).Set(PropCronName, d.name).Append(PropDue, dueStamp(now.UnixMilli(), m.BornTimestamp, m.ReconsumeTimes))
	m.Topic, m.QueueID = TopicRecurring, 0
	return Deferred{Recurring: true}, nil
}

// firing makes the message of a definition the one that is delivered.
func (s *Service) firing(m *message.Message, name string, planned, now int64) {
	m.Properties = m.Properties.Without(PropCron, PropCronName, PropCronUntil, PropCronCount, PropCronMissed, PropState, PropReplaces, PropDue,
		message.PropRealTopic, message.PropRealQueueID, message.PropUniqueKey).
		Append(message.PropUniqueKey, s.o.NewID()).
		Append(PropSchedule, name).Append(PropPlanned, strconv.FormatInt(planned, 10))
	m.BornTimestamp = now
	m.ReconsumeTimes = 0
}
