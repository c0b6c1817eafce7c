// Package crash kills a running merlin again and again while producers write,
// and checks after each start that everything that was acknowledged is there.
package crash
