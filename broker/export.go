package broker

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/store"
)

// Export opens a data folder that nobody has open, recovers it if it was not
// closed in order, writes the config/*.json that Apache's broker needs, and
// closes it. Nothing is delivered, checked or deleted meanwhile. It returns the
// folder that the files are in.
func Export(dir string, o Options) (config string, err error) {
	if o.FS == nil {
		o.FS = vfs.OS
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Settings == nil {
		o.Settings = DefaultSettings()
	}
	if o.Events.Warn == nil {
		o.Events.Warn = func(string, ...any) {}
	}
	b := &Broker{cfg: o.Settings, now: o.Now, started: o.Now(), events: o.Events}
	b.SetStoreHost(o.StoreHost)
	defer func() { err = errors.Join(err, b.closeParts()) }()
	if err = b.checkState(dir, o); err != nil {
		return "", err
	}
	so := b.storeOptions(o)
	so.OnArrive, so.BeforeDrop = nil, nil
	if b.store, err = store.Open(dir, so); err != nil {
		return "", err
	}
	if err := b.openTables(o.FS, dir); err != nil {
		return "", err
	}
	delays, err := b.handOverDelays(o.FS, dir)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, apacheConfigDir), b.exportApache(o.FS, dir, delays)
}

// openTables opens the small state: the store is open already.
func (b *Broker) openTables(fsys vfs.FS, dir string) (err error) {
	report := func(r kv.Report) { b.events.Warn(r.String()) }
	if b.db, err = kv.Open(filepath.Join(dir, kvFolder), kv.Options{Report: report}); err != nil {
		return err
	}
	if err = markState(fsys, dir); err != nil {
		return err
	}
	if err = b.takeOver(fsys, dir); err != nil {
		return err
	}
	b.modes = openRequestModes(b.db)
	if b.topics, err = openTopics(b.db, b.cfg, b.now, b.topicsChanged); err != nil {
		return err
	}
	if b.groups, err = openGroups(b.db, b.cfg, b.now); err != nil {
		return err
	}
	if b.offsets, err = openOffsets(b.db, b.now); err != nil {
		return err
	}
	if err = b.fitOffsets(); err != nil {
		return err
	}
	if b.locks, err = openLocks(b.db, func() time.Duration { return ms(b.cfg.LockLifeMs.Load()) }, b.now); err != nil {
		return err
	}
	b.clients, err = openClients(b.db, b.groups, b.now)
	if b.clients != nil {
		b.clients.warn, b.clients.life = b.events.Warn, b.cfg.ClientLife
	}
	return err
}

// fitOffsets takes back what was committed of messages that the log has lost.
func (b *Broker) fitOffsets() error {
	n, one, err := b.offsets.fit(b.store.QueueMax)
	if n > 0 {
		b.events.Warn("committed offsets were behind the ends of their queues, as after a power cut that took the end of the log; they are set to the ends",
			"offsets", n, "group", one.Group, "topic", one.Topic, "queue", one.Queue, "committed", one.Offset, "end", one.End)
	}
	return err
}
