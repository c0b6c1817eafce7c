// Package arch holds no code: its tests keep the shape of the source tree. Data
// flows one way, so an import never points up; every package says in one
// comment what it promises; a library is imported where it belongs and nowhere
// else. docs/architecture.md explains the table that the tests hold.
package arch
