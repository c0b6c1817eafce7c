// Package filter generates SQL92 filters and property sets, and its tests
// compare our verdicts with those of Apache's own filter classes. A seed gives
// the same cases every time.
package filter
