package nameserver

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/merlinmq/merlin/remoting/body"
)

// orderNamespace is where brokers and clients look for the order configuration of topics.
const orderNamespace = "ORDER_TOPIC_CONFIG"

const maxKV = 100_000 // keys over all namespaces

// kvFile is the file's content, in Apache's shape.
type kvFile struct {
	ConfigTable map[string]map[string]string `json:"configTable"`
}

// kv is a table of settings by namespace and key, kept in a file where a path is given.
type kv struct {
	path string

	mu    sync.RWMutex // guards table and the file
	table map[string]map[string]string
	keys  int
}

func openKV(path string) (*kv, error) {
	k := &kv{path: path, table: map[string]map[string]string{}}
	if path == "" {
		return k, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("KV configuration: %w", err)
	}
	var f kvFile
	if len(data) > 0 {
		if err := body.Decode(data, &f); err != nil {
			return nil, fmt.Errorf("KV configuration %s does not read (repair it, or remove it to begin empty): %w", path, err)
		}
	}
	for ns, of := range f.ConfigTable {
		if len(of) > 0 {
			k.table[ns] = of
			k.keys += len(of)
		}
	}
	return k, nil
}

func (k *kv) get(ns, key string) (string, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	v, ok := k.table[ns][key]
	return v, ok
}

// list returns a copy of a namespace, nil where there is none.
func (k *kv) list(ns string) map[string]string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return maps.Clone(k.table[ns])
}

// put sets a key. Where the file cannot be written the table keeps what it had.
func (k *kv) put(ns, key, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	old, had := k.table[ns][key]
	if !had && k.keys >= maxKV {
		return fmt.Errorf("the name server holds %d settings already, which is its limit", maxKV)
	}
	k.setLocked(ns, key, value)
	if err := k.saveLocked(); err != nil {
		if had {
			k.setLocked(ns, key, old)
		} else {
			k.dropLocked(ns, key)
		}
		return err
	}
	return nil
}

// drop removes a key; one that is not there is no error.
func (k *kv) drop(ns, key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	old, had := k.table[ns][key]
	if !had {
		return nil
	}
	k.dropLocked(ns, key)
	if err := k.saveLocked(); err != nil {
		k.setLocked(ns, key, old)
		return err
	}
	return nil
}

func (k *kv) setLocked(ns, key, value string) {
	if k.table[ns] == nil {
		k.table[ns] = map[string]string{}
	}
	if _, had := k.table[ns][key]; !had {
		k.keys++
	}
	k.table[ns][key] = value
}

func (k *kv) dropLocked(ns, key string) {
	delete(k.table[ns], key)
	k.keys--
	if len(k.table[ns]) == 0 {
		delete(k.table, ns)
	}
}

// saveLocked replaces the file in one step: whoever reads it sees the old or the new content, also after a crash.
func (k *kv) saveLocked() error {
	if k.path == "" {
		return nil
	}
	if err := replaceFile(k.path, body.Encode(kvFile{ConfigTable: k.table})); err != nil {
		return fmt.Errorf("KV configuration is unchanged because it could not be saved: %w", err)
	}
	return nil
}

func replaceFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, openErr := os.Open(dir)
	if openErr != nil {
		return nil // the file is in place; where a directory cannot be opened it cannot be synced either
	}
	syncErr := d.Sync()
	if closeErr := d.Close(); syncErr == nil {
		syncErr = closeErr
	}
	if syncErr != nil && !errors.Is(syncErr, errors.ErrUnsupported) {
		return syncErr
	}
	return nil
}
