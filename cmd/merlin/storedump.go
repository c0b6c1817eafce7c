package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// dump is one run of the dump command.
type dump struct {
	a     *app
	dir   string
	topic string
	from  int64
	limit int
	body  bool
	slots int64 // of an index file
	done  int
}

// errDumpEnd ends a scan that has printed enough.
var errDumpEnd = errors.New("enough")

func (a *app) storeDumpCommand() *cobra.Command {
	f, d := &storeFlags{}, &dump{a: a}
	cmd := &cobra.Command{
		Use:   "dump [FILE...]",
		Short: "Print files of the log, of queues and of the index",
		Long: `Print the records of the log, or of single files: a commit log file, a consume queue file or
folder, an index file. What is damaged is printed as such. It only reads; a broker may run
on the folder. With --json it prints one object a line.`,
		Example: `  merlin store dump --data /var/lib/merlin --topic orders --json
  merlin store dump --data /var/lib/merlin consumequeue/orders/0
  merlin store dump --data /var/lib/merlin commitlog/00000000000000000000 --max 10 --body`,
		RunE: func(cmd *cobra.Command, files []string) error {
			dir, settings, err := f.load(cmd)
			if err != nil {
				return err
			}
			d.dir, d.slots = dir, int64(settings.IndexSlots)
			if len(files) == 0 {
				files = []string{filepath.Join(dir, "commitlog")}
			}
			for _, file := range files {
				if err := d.file(file); err != nil && !errors.Is(err, errDumpEnd) {
					return err
				}
			}
			return nil
		},
	}
	f.register(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&d.topic, "topic", "t", "", "records of this topic alone")
	flags.Int64Var(&d.from, "from", 0, "begin at this position of the log, or offset of the queue")
	flags.IntVarP(&d.limit, "max", "n", 0, "print at most so many lines; 0: all")
	flags.BoolVar(&d.body, "body", false, "print bodies too")
	return cmd
}

// file prints one file or folder; its kind is told by the folders that it is in.
func (d *dump) file(name string) error {
	path := name
	if !filepath.IsAbs(path) {
		if _, err := os.Stat(path); err != nil {
			path = filepath.Join(d.dir, name)
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	parts := strings.Split(filepath.ToSlash(path), "/")
	for i := len(parts) - 1; i >= 0; i-- {
		switch parts[i] {
		case "commitlog":
			return d.log(path, info.IsDir())
		case "consumequeue":
			return d.walk(path, func(file string) error { return d.queue(file) })
		case "index":
			return d.walk(path, func(file string) error { return d.index(file) })
		}
	}
	return fmt.Errorf("%s is in no folder commitlog, consumequeue or index: it is not known what it holds", path)
}

// walk calls fn for a file, or for those below a folder, in order.
func (d *dump) walk(path string, fn func(file string) error) error {
	return filepath.WalkDir(path, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return fn(file)
	})
}

// line prints one object, or a line of text.
func (d *dump) line(v any, format string, args ...any) error {
	if d.limit > 0 && d.done >= d.limit {
		return errDumpEnd
	}
	d.done++
	if d.a.json {
		return d.a.printLine(v)
	}
	_, err := fmt.Fprintf(d.a.out, format+"\n", args...)
	return err
}

// dumpedRecord is a record of the log.
type dumpedRecord struct {
	Position   message.Position  `json:"position"`
	Size       int               `json:"size"`
	Topic      string            `json:"topic"`
	Queue      int32             `json:"queue"`
	Offset     message.Offset    `json:"offset"`
	Stored     int64             `json:"storeTime"`
	Born       int64             `json:"bornTime"`
	BornHost   string            `json:"bornHost"`
	StoreHost  string            `json:"storeHost"`
	SysFlag    int32             `json:"sysFlag"`
	Flag       int32             `json:"flag"`
	Reconsumed int32             `json:"reconsumeTimes,omitempty"`
	Prepared   message.Position  `json:"preparedPosition,omitempty"`
	Properties map[string]string `json:"properties"`
	BodySize   int               `json:"bodySize"`
	Body       *string           `json:"body,omitempty"`
	Base64     *string           `json:"bodyBase64,omitempty"`
	Damaged    string            `json:"damaged,omitempty"` // the CRC of the body is wrong
}

// dumpedDamage is a range of a file in which nothing can be believed.
type dumpedDamage struct {
	Damaged string `json:"damaged"`
	File    string `json:"file"`
	Offset  int64  `json:"offset"`
	Length  int64  `json:"length"`
}

func (d *dump) log(path string, folder bool) error {
	dir, from, upto := path, message.Position(d.from), message.Position(1<<62)
	if !folder {
		base, err := strconv.ParseInt(filepath.Base(path), 10, 64)
		if err != nil {
			return fmt.Errorf("%s is no file of the log: its name is not a position", path)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		dir, upto = filepath.Dir(path), message.Position(base+info.Size())
		from = max(from, message.Position(base))
	}
	each := func(pos message.Position, v message.View) error {
		if pos < from || d.topic != "" && string(v.Topic()) != d.topic {
			return nil
		}
		if pos >= upto {
			return errDumpEnd
		}
		return d.record(pos, v)
	}
	var failed error
	damaged := func(file string, first, end message.Position, err error) {
		if first >= upto || end <= from || failed != nil {
			return
		}
		at := dumpedDamage{Damaged: err.Error(), File: file, Length: int64(end - first)}
		var corrupt *commitlog.CorruptError
		if errors.As(err, &corrupt) {
			at.File, at.Offset, at.Damaged = corrupt.File, corrupt.Offset, corrupt.Err.Error()
		}
		failed = d.line(at, "%s at %d: damaged, %d bytes: %s", at.File, at.Offset, at.Length, at.Damaged)
	}
	_, err := commitlog.Scan(vfs.OS, dir, from, each, damaged)
	return errors.Join(err, failed)
}

func (d *dump) record(pos message.Position, v message.View) error {
	r := &dumpedRecord{
		Position: pos, Size: v.Size(), Topic: string(v.Topic()), Queue: v.QueueID(), Offset: v.QueueOffset(),
		Stored: v.StoreTimestamp(), Born: v.BornTimestamp(), BornHost: v.BornHost().String(), StoreHost: v.StoreHost().String(),
		SysFlag: int32(v.SysFlag()), Flag: v.Flag(), Reconsumed: v.ReconsumeTimes(), Prepared: v.PreparedPosition(),
		Properties: v.Properties().Map(), BodySize: v.BodySize(),
	}
	if err := v.VerifyBody(); err != nil {
		r.Damaged = err.Error()
	}
	tail := ""
	if d.body {
		text := string(v.Body())
		if utf8.ValidString(text) {
			r.Body, tail = &text, " "+strconv.Quote(text)
		} else {
			text = base64.StdEncoding.EncodeToString(v.Body())
			r.Base64, tail = &text, " base64:"+text
		}
	}
	if r.Damaged != "" {
		tail += " DAMAGED: " + r.Damaged
	}
	t := time.UnixMilli(r.Stored)
	var props []string
	for k, value := range r.Properties {
		props = append(props, k+"="+value)
	}
	slices.Sort(props)
	return d.line(r, "%d size %d %s/%d@%d stored %s sysflag %d body %d {%s}%s", pos, r.Size, r.Topic, r.Queue, r.Offset,
		when(&t), r.SysFlag, r.BodySize, strings.Join(props, " "), tail)
}

// dumpedEntry is a row of a queue.
type dumpedEntry struct {
	Topic    string           `json:"topic"`
	Queue    string           `json:"queue"`
	Offset   int64            `json:"offset"`
	Position message.Position `json:"position"`
	Size     int32            `json:"size"`
	TagCode  int64            `json:"tagCode"`
	Filler   bool             `json:"filler,omitempty"`
}

// queue prints a queue's file up to its first empty row.
func (d *dump) queue(file string) (err error) {
	base, err := strconv.ParseInt(filepath.Base(file), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is no file of a queue: its name is not a place", file)
	}
	queue := filepath.Base(filepath.Dir(file))
	topic := filepath.Base(filepath.Dir(filepath.Dir(file)))
	if d.topic != "" && topic != d.topic {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	row := make([]byte, consumequeue.EntrySize*4096)
	for at := int64(0); ; at += int64(len(row)) {
		n, err := f.ReadAt(row, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := 0; i+consumequeue.EntrySize <= n; i += consumequeue.EntrySize {
			b := row[i:]
			e := dumpedEntry{
				Topic: topic, Queue: queue, Offset: (base + at + int64(i)) / consumequeue.EntrySize,
				Position: message.Position(binary.BigEndian.Uint64(b)), Size: int32(binary.BigEndian.Uint32(b[8:])),
				TagCode: int64(binary.BigEndian.Uint64(b[12:])),
			}
			e.Filler = consumequeue.Entry{Position: e.Position, Size: e.Size, TagCode: e.TagCode}.Filler()
			if e.Size == 0 && e.Position == 0 {
				return nil
			}
			if e.Offset < d.from {
				continue
			}
			note := ""
			if e.Filler {
				note = " filler"
			}
			if err := d.line(e, "%s/%s@%d position %d size %d tagcode %d%s", topic, queue, e.Offset, e.Position, e.Size, e.TagCode, note); err != nil {
				return err
			}
		}
		if n < len(row) {
			return nil
		}
	}
}

// dumpedIndex is the header of an index file.
type dumpedIndex struct {
	File  string           `json:"file"`
	Begin int64            `json:"beginTime"`
	End   int64            `json:"endTime"`
	First message.Position `json:"firstPosition"`
	Last  message.Position `json:"lastPosition"`
	Slots int32            `json:"slotsUsed"`
	Items int32            `json:"items"`
}

// dumpedItem is an item of an index file.
type dumpedItem struct {
	Item     int32            `json:"item"`
	Hash     uint32           `json:"hash"`
	Position message.Position `json:"position"`
	Seconds  int32            `json:"seconds"` // after the file's begin
	Previous int32            `json:"previous"`
}

// index prints an index file: its header, then its items.
func (d *dump) index(file string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	be := binary.BigEndian
	head := make([]byte, 40)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("%s: the header cannot be read: %w", file, err)
	}
	h := dumpedIndex{
		File: file, Begin: int64(be.Uint64(head)), End: int64(be.Uint64(head[8:])), First: message.Position(be.Uint64(head[16:])),
		Last: message.Position(be.Uint64(head[24:])), Slots: int32(be.Uint32(head[32:])), Items: max(int32(be.Uint32(head[36:]))-1, 0),
	}
	if err := d.line(h, "%s times %d to %d positions %d to %d, %d slots used, %d items", file, h.Begin, h.End, h.First, h.Last, h.Slots, h.Items); err != nil {
		return err
	}
	if d.slots == 0 {
		d.slots = 5_000_000
	}
	buf := make([]byte, 20*4096)
	for item := int32(1); item <= h.Items; {
		n, err := f.ReadAt(buf[:20*min(4096, int(h.Items-item)+1)], 40+4*d.slots+20*int64(item))
		if n < 20 {
			return fmt.Errorf("%s ends before item %d of %d (--set maxHashSlotNum=N if it has another number of slots): %w", file, item, h.Items, err)
		}
		for b := buf[:n/20*20]; len(b) > 0; b = b[20:] {
			it := dumpedItem{item, be.Uint32(b), message.Position(be.Uint64(b[4:])), int32(be.Uint32(b[12:])), int32(be.Uint32(b[16:]))}
			if err := d.line(it, "item %d hash %d position %d second %d previous %d", it.Item, it.Hash, it.Position, it.Seconds, it.Previous); err != nil {
				return err
			}
			item++
		}
	}
	return nil
}
