package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/merlinmq/merlin"

// rule is one row of the layer table: what a folder may import.
type rule struct {
	folder  string   // as in the tree; a rule covers the folders below it
	ours    []string // folders of ours, the folders below them included
	outside []string // libraries besides the standard one
}

// rules are read from the top: the first whose folder holds a file applies.
var rules = []rule{
	{"message", nil, nil},
	{"internal/vfs", nil, []string{"golang.org/x/sys"}},
	{"internal/fastjson", nil, nil},
	{"internal/heap", nil, nil},
	{"internal/share", nil, nil},
	{"internal/arch", nil, nil},
	{"internal/kv", nil, []string{"github.com/syndtr/goleveldb"}},
	{"internal/config", nil, []string{"github.com/magiconair/properties"}},
	{"commitlog", []string{"message", "internal/vfs"}, []string{"golang.org/x/sys"}},
	{"consumequeue", []string{"message", "internal/vfs"}, nil},
	{"index", []string{"message", "internal/vfs"}, nil},
	{"remoting/body", []string{"internal/fastjson"}, nil},
	{"remoting", nil, []string{"github.com/cloudwego/netpoll", "golang.org/x/sys"}},
	{"store", []string{"message", "internal/vfs", "commitlog", "consumequeue", "index"}, nil},
	{"txn", []string{"message", "internal/heap", "internal/kv"}, nil},
	{"schedule", []string{"message", "internal/heap", "internal/kv"}, []string{"github.com/robfig/cron"}},
	{"nameserver", []string{"message", "remoting"}, nil},
	{"broker/filter", []string{"message"}, nil},
	{"broker/pop", []string{"message", "internal/heap", "internal/share", "internal/kv"}, nil},
	{"broker", []string{"message", "internal/vfs", "internal/heap", "internal/share", "internal/kv", "internal/fastjson", "internal/config", "store", "txn", "schedule", "broker"}, []string{"github.com/robfig/cron"}},
	{"gateway/remoting", []string{"message", "remoting", "broker"}, nil},
	{"client", []string{"message", "remoting", "client"}, []string{"github.com/apache/rocketmq-client-go", "github.com/HdrHistogram/hdrhistogram-go", "github.com/sirupsen/logrus"}},
	{"cmd", []string{""}, []string{""}},
	{"examples", []string{""}, []string{""}},
	{"test", []string{""}, []string{""}},
}

// onlyIn says for the libraries with traps where they are fenced in.
var onlyIn = map[string][]string{
	"github.com/cloudwego/netpoll":         {"remoting"},
	"github.com/syndtr/goleveldb":          {"internal/kv"},
	"github.com/apache/rocketmq-client-go": {"client", "examples", "test"},
	"github.com/robfig/cron":               {"schedule", "broker", "cmd"},
}

func TestImportsPointDown(t *testing.T) {
	eachFile(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		folder := path.Dir(name)
		r, ok := ruleOf(folder)
		if !ok {
			t.Errorf("%s: the folder has no row in the layer table; give it one in internal/arch and docs/architecture.md", name)
			return
		}
		for _, imp := range imports(t, name) {
			if own, found := strings.CutPrefix(imp, module+"/"); found {
				if !within(own, r.folder) && !anyWithin(own, r.ours) {
					t.Errorf("%s imports %s, which its layer may not", name, imp)
				}
				continue
			}
			if strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") && !anyPrefix(imp, r.outside) {
				t.Errorf("%s imports %s, which its layer may not", name, imp)
			}
			for lib, folders := range onlyIn {
				if strings.HasPrefix(imp, lib) && !anyWithin(folder, folders) {
					t.Errorf("%s imports %s, which belongs in %v alone", name, imp, folders)
				}
			}
		}
	})
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string]int{}
	eachFile(t, func(name string) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		if f.Doc != nil && strings.TrimSpace(f.Doc.Text()) != "" {
			n = 1
			if f.Name.Name != "main" && !strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" ") {
				t.Errorf("%s: the package comment begins %q, not \"Package %s \"", name, firstLine(f.Doc.Text()), f.Name.Name)
			}
		}
		comments[path.Dir(name)] += n
	})
	for folder, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one", folder, n)
		}
	}
}

func TestNoFolderIsADrawer(t *testing.T) {
	eachFile(t, func(name string) {
		for _, part := range strings.Split(path.Dir(name), "/") {
			switch part {
			case "util", "utils", "common", "helper", "helpers", "misc":
				t.Errorf("%s: a folder named %q says nothing of what is in it", name, part)
			}
		}
	})
}

const root = "../.."

func eachFile(t *testing.T, fn func(name string)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "data") {
			return filepath.SkipDir
		}
		if d.IsDir() && p != root {
			if _, err := os.Stat(filepath.Join(p, "go.mod")); err == nil {
				return filepath.SkipDir
			}
		}
		if strings.HasSuffix(p, ".go") {
			rel, err := filepath.Rel(root, p)
			if err != nil {
				return err
			}
			seen++
			fn(filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen == 0 {
		t.Fatal("no Go file seen: the test looks in the wrong folder")
	}
}

func imports(t *testing.T, name string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func ruleOf(folder string) (rule, bool) {
	for _, r := range rules {
		if within(folder, r.folder) {
			return r, true
		}
	}
	return rule{}, false
}

func within(folder, parent string) bool {
	return parent == "" || folder == parent || strings.HasPrefix(folder, parent+"/")
}

func anyWithin(folder string, parents []string) bool {
	for _, p := range parents {
		if within(folder, p) {
			return true
		}
	}
	return false
}

func anyPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

func firstLine(s string) string { return strings.SplitN(s, "\n", 2)[0] }
