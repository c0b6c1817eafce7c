// Package filter compiles SQL92 subscriptions and tells which messages they
// let through. It promises the verdict of Apache's rocketmq-filter for every
// expression and every set of properties: the same expressions compile, the
// same messages match, and a comparison that makes Apache's evaluator throw
// makes the message not match. A compiled Expression is immutable and may be
// used by any number of goroutines at once; matching reads the stored bytes of
// the properties once and allocates nothing.
//
// The language, loosest first, with keywords in any case:
//
//	or         = and { OR and }
//	and        = equality { AND equality }
//	equality   = comparison { ( "=" | "<>" ) comparison | IS [ NOT ] NULL }
//	comparison = unary { ( ">" | ">=" | "<" | "<=" ) unary
//	           | [ NOT ] BETWEEN unary AND unary | [ NOT ] IN "(" string { "," string } ")"
//	           | [ NOT ] ( CONTAINS | STARTSWITH | ENDSWITH ) string }
//	unary      = ( "+" | "-" | NOT ) unary | primary
//	primary    = string | number | TRUE | FALSE | NULL | property | "(" or ")"
//
// What surprises in it is Apache's and kept:
//
//   - NOT binds tighter than a comparison: NOT a = 1 is (NOT a) = 1.
//   - What follows a complete expression is ignored, except that the next word
//     must be one of the language.
//   - A line comment ends with a line break; without one, -- is two minus signs.
//   - The literal 0.0 does not compile, nor does BETWEEN with its bounds swapped.
//   - p = 1 without the property p is NULL, 1 = p is FALSE, p = q with neither TRUE.
//   - A number without a fraction reads the property as a 32-bit integer if it
//     is one itself: p > 5 fails, and so does not match, for 3000000000 and 5.5.
//
// Two things are our own: a text longer than MaxLength or nested deeper than
// MaxDepth does not compile, and property values that are not UTF-8 are
// compared as bytes, where Java puts replacement characters.
package filter
