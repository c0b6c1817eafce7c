package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/merlinmq/merlin/internal/fastjson"
	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/schedule"
)

// handedOver is from where on another broker delivers what waits.
type handedOver struct {
	levels map[int32]message.Offset
	timer  schedule.Taken
}

// exportApache writes the settings and offsets into the config folder of the
// data folder, as files that Apache's broker reads; nil delays leave its files
// of those as they are. What a crash leaves is known by its sums: the next start
// takes nothing of it for Apache's.
func (b *Broker) exportApache(fsys vfs.FS, dataDir string, delays *handedOver) error {
	dir := filepath.Join(dataDir, apacheConfigDir)
	files, err := b.exportFiles(delays)
	if err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	marks := importMarks(b.db)
	mark, _, err := readImportMark(marks)
	if err != nil {
		return err
	}
	mark.Exporting = map[string]uint32{}
	for name, text := range files {
		mark.Exporting[name] = crc32.ChecksumIEEE(text)
	}
	if err := marks.Put([]byte(importKey), mark, kv.Synced); err != nil {
		return err
	}
	if err := replaceFiles(fsys, dir, files); err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	maps.Copy(mark.Sums, mark.Exporting)
	mark.Exporting = nil
	return marks.Put([]byte(importKey), mark, kv.Synced)
}

// exportFiles returns the texts of the files.
func (b *Broker) exportFiles(delays *handedOver) (map[string][]byte, error) {
	modes, err := b.exportModes()
	if err != nil {
		return nil, err
	}
	values := map[string]any{
		"topics.json": b.exportTopics(), "subscriptionGroup.json": b.exportGroups(), "consumerOffset.json": b.exportOffsets(),
		"consumerFilter.json": b.exportFilters(), "messageRequestMode.json": modes,
	}
	files := map[string][]byte{}
	if delays != nil {
		values["delayOffset.json"] = apacheDelays{DataVersion: DataVersion{Timestamp: b.now().UnixMilli()}, OffsetTable: delays.levels}
		files[timerFile] = encodeTimerProgress(delays.timer)
	}
	for name, v := range values {
		if files[name], err = fastjson.Marshal(v, fastjson.Loose); err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
	}
	return files, nil
}

func encodeTimerProgress(taken schedule.Taken) []byte {
	text := make([]byte, timerCheckSize)
	binary.BigEndian.PutUint64(text, uint64(taken.Time))
	binary.BigEndian.PutUint64(text[16:], uint64(taken.Offset))
	binary.BigEndian.PutUint64(text[24:], uint64(taken.Offset))
	return text
}

// replaceFiles puts files in place of others, or none, each as a whole, and none
// before all are on the disk.
func replaceFiles(fsys vfs.FS, dir string, files map[string][]byte) error {
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if err := writeWhole(fsys, filepath.Join(dir, name+".tmp"), files[name]); err != nil {
			return err
		}
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := fsys.Rename(path+".tmp", path); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// writeWhole writes a file durably, anew if it is there.
func writeWhole(fsys vfs.FS, path string, text []byte) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (b *Broker) exportTopics() apacheTopics {
	file := apacheTopics{DataVersion: b.topics.Version(), TopicConfigTable: map[string]apacheTopic{}}
	for _, t := range b.topics.All() {
		file.TopicConfigTable[t.Name] = newApacheTopic(t.TopicConfig)
	}
	return file
}

func (b *Broker) exportGroups() apacheGroups {
	file := apacheGroups{
		DataVersion: b.groups.Version(), ForbiddenTable: map[string]map[string]int32{},
		SubscriptionGroupTable: map[string]apacheGroup{},
	}
	for _, g := range b.groups.All() {
		file.SubscriptionGroupTable[g.Name] = newApacheGroup(g.GroupConfig)
		if len(g.Forbidden) > 0 {
			file.ForbiddenTable[g.Name] = g.Forbidden
		}
	}
	return file
}

func (b *Broker) exportOffsets() apacheOffsets {
	file := apacheOffsets{
		DataVersion: b.offsets.Version(),
		OffsetTable: map[string]map[int32]message.Offset{}, PullOffsetTable: map[string]map[int32]message.Offset{},
	}
	b.offsets.Each(func(group, topic string, queues map[int32]message.Offset) {
		file.OffsetTable[topic+"@"+group] = queues
	})
	b.offsets.EachPull(func(group, topic string, queues map[int32]message.Offset) {
		file.PullOffsetTable[topic+"@"+group] = queues
	})
	return file
}

func (b *Broker) exportFilters() apacheFilters {
	file := apacheFilters{FilterDataByTopic: map[string]apacheTopicFilters{}}
	b.clients.eachSubscription(func(group string, s *Subscription) {
		if s.IsTag() {
			return
		}
		topic, ok := file.FilterDataByTopic[s.Topic]
		if !ok {
			topic = apacheTopicFilters{Topic: s.Topic, GroupFilterData: map[string]apacheFilter{}}
			file.FilterDataByTopic[s.Topic] = topic
		}
		topic.GroupFilterData[group] = apacheFilter{
			ConsumerGroup: group, Topic: s.Topic, Expression: s.Expression, ExpressionType: s.Type,
			BornTime: b.now().UnixMilli(), ClientVersion: s.Version,
		}
	})
	return file
}

func (b *Broker) exportModes() (apacheModes, error) {
	file := apacheModes{Map: map[string]map[string]apacheMode{}}
	all, err := b.RequestModes()
	for _, m := range all {
		if file.Map[m.Topic] == nil {
			file.Map[m.Topic] = map[string]apacheMode{}
		}
		mode := "PULL"
		if m.Pop {
			mode = apachePop
		}
		file.Map[m.Topic][m.Group] = apacheMode{Topic: m.Topic, ConsumerGroup: m.Group, Mode: mode, Shared: m.Shared}
	}
	return file, err
}
