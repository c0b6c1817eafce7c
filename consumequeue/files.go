package consumequeue

import (
	"sync"

	"github.com/merlinmq/merlin/internal/vfs"
)

// fileKey names the n-th file of a queue: the one whose first entry is n times
// the entries of a file.
type fileKey struct {
	q *Queue
	n int64
}

// openFile is a file held open by the cache. Between get or add and release it
// stays open, even if it is evicted meanwhile.
type openFile struct {
	vfs.File
	key        fileKey
	refs       int // users, and one for the cache
	prev, next *openFile
}

// fileCache bounds the open files of a table; the one that was used least
// recently is closed first. A file may be closed before it is synced: the
// kernel then reports a failed writeback to the next who opens and syncs it.
type fileCache struct {
	limit  int
	failed func(error) // told of a file that did not close

	mu   sync.Mutex // guards what follows
	open map[fileKey]*openFile
	ring openFile // head of the list; next is the most recently used
}

func newFileCache(limit int, failed func(error)) *fileCache {
	c := &fileCache{limit: limit, failed: failed, open: make(map[fileKey]*openFile)}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

// get returns the file if it is open, else nil.
func (c *fileCache) get(key fileKey) *openFile {
	c.mu.Lock()
	f := c.open[key]
	if f != nil {
		f.refs++
		c.unlinkLocked(f)
		c.linkLocked(f)
	}
	c.mu.Unlock()
	return f
}

// add takes a file that was just opened. If another goroutine was faster, its
// file is returned and this one closed.
func (c *fileCache) add(key fileKey, file vfs.File) *openFile {
	c.mu.Lock()
	if f := c.open[key]; f != nil {
		f.refs++
		c.mu.Unlock()
		c.close(file)
		return f
	}
	f := &openFile{File: file, key: key, refs: 2}
	c.open[key] = f
	c.linkLocked(f)
	var out *openFile
	if len(c.open) > c.limit {
		out = c.ring.prev
		c.forgetLocked(out)
	}
	c.mu.Unlock()
	if out != nil {
		c.release(out)
	}
	return f
}

func (c *fileCache) release(f *openFile) {
	c.mu.Lock()
	f.refs--
	last := f.refs == 0
	c.mu.Unlock()
	if last {
		c.close(f.File)
	}
}

// drop forgets the queue's files from number from on and below end.
func (c *fileCache) drop(q *Queue, from, end int64) {
	for n := from; n < end; n++ {
		c.mu.Lock()
		f := c.open[fileKey{q, n}]
		if f != nil {
			c.forgetLocked(f)
		}
		c.mu.Unlock()
		if f != nil {
			c.release(f)
		}
	}
}

func (c *fileCache) closeAll() {
	for {
		c.mu.Lock()
		f := c.ring.next
		if f == &c.ring {
			c.mu.Unlock()
			return
		}
		c.forgetLocked(f)
		c.mu.Unlock()
		c.release(f)
	}
}

func (c *fileCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

func (c *fileCache) close(f vfs.File) {
	if err := f.Close(); err != nil {
		c.failed(err)
	}
}

func (c *fileCache) linkLocked(f *openFile) {
	f.prev, f.next = &c.ring, c.ring.next
	f.prev.next, f.next.prev = f, f
}

func (c *fileCache) unlinkLocked(f *openFile) {
	f.prev.next, f.next.prev = f.next, f.prev
	f.prev, f.next = nil, nil
}

// forgetLocked takes the file out of the cache; the caller releases the cache's
// reference when it has given the lock back.
func (c *fileCache) forgetLocked(f *openFile) {
	c.unlinkLocked(f)
	delete(c.open, f.key)
}
