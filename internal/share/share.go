// Package share divides room that there is once among those who want some of
// it, so that nobody can take it all: one may have a quarter of what is free,
// and a few in any case. So a greedy one gets a fifth of the room, the next one
// a fifth of the rest, and ten of them leave a tenth of it to others.
package share

// Few is how much one gets as long as there is any, whatever the others have.
const Few = 64

// Room is what there is to divide. It is not for concurrent use, nor are the
// Parts that have something of it.
type Room struct {
	size, used int
}

// Part is what one has of a Room. The zero value has nothing.
type Part struct{ used int }

// Of returns a room of that size, in units of the caller's.
func Of(size int) Room { return Room{size: size} }

// Used returns how much of the room is taken.
func (r *Room) Used() int { return r.used }

// Used returns how much one has.
func (p *Part) Used() int { return p.used }

// Take gives n units to one, or false if it would have more than its share.
func (r *Room) Take(p *Part, n int) bool {
	free := r.size - r.used
	if n > free || p.used+n > max(free/4, Few) {
		return false
	}
	p.used += n
	r.used += n
	return true
}

// Give takes n units back that one has taken.
func (r *Room) Give(p *Part, n int) {
	p.used -= n
	r.used -= n
}
