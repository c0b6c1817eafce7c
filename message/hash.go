package message

import "unicode/utf8"

// JavaHash returns what Java's String.hashCode gives for the UTF-8 text: the
// polynomial in 31 over UTF-16 units, wrapped to 32 bits. Bytes that are not
// UTF-8 count as U+FFFD, as Java decodes them.
func JavaHash[T ~string | ~[]byte](text T) int32 { return ExtendHash(0, text) }

// ExtendHash returns the JavaHash of a text that begins with what has the hash
// h and ends with text.
func ExtendHash[T ~string | ~[]byte](h int32, text T) int32 {
	i := 0
	// Four steps in one, so that the products do not wait for each other.
	for ; i+4 <= len(text); i += 4 {
		a, b, c, d := text[i], text[i+1], text[i+2], text[i+3]
		if (a|b|c|d)&utf8.RuneSelf != 0 {
			break
		}
		h = 31*31*31*31*h + 31*31*31*int32(a) + 31*31*int32(b) + 31*int32(c) + int32(d)
	}
	for ; i < len(text); i++ {
		c := text[i]
		if c >= utf8.RuneSelf {
			return javaHashWide(h, string(text[i:]))
		}
		h = 31*h + int32(c)
	}
	return h
}

func javaHashWide(h int32, rest string) int32 {
	for _, r := range rest {
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + int32(0xD800+r>>10)
			r = 0xDC00 + r&0x3FF
		}
		h = 31*h + int32(r)
	}
	return h
}

// TagCode returns the code a consume queue keeps for a message's tags: their
// JavaHash, sign-extended; 0 for none.
func TagCode[T ~string | ~[]byte](tags T) int64 { return int64(JavaHash(tags)) }
