package message

// A record of the commit log. All integers are big-endian. The host fields
// take 8 bytes (IPv4 address and port) or 20 (IPv6), each on its own, as told
// by SysFlag; places behind a wide host move by 12.
//
//	place  size  field
//	    0     4  total size, these four bytes included
//	    4     4  magic: MagicV1, MagicV2, or MagicBlank for a filler
//	    8     4  CRC-32 (IEEE) of the body, masked to 31 bits; 0 for no body
//	   12     4  queue id
//	   16     4  user flag
//	   20     8  queue offset
//	   28     8  position of this record
//	   36     4  system flag
//	   40     8  born timestamp, ms
//	   48  8/20  born host
//	   56     8  store timestamp, ms
//	   64  8/20  store host
//	   72     4  reconsume times
//	   76     8  position of the prepared message of a transaction
//	   84   4+n  body
//	    .   1+n  topic (V1), or 2+n (V2)
//	    .   2+n  properties
//
// A segment ends with a filler of at least 8 bytes: the size that was left,
// then MagicBlank. What follows in it has no meaning.
const (
	MagicV1    uint32 = 0xDAA320A7
	MagicV2    uint32 = 0xDAA320AB
	MagicBlank uint32 = 0xCBD43194

	// BlankSize is what a segment keeps free behind every record.
	BlankSize = 8

	placeSize       = 0
	placeMagic      = 4
	placeBodyCRC    = 8
	placeQueueID    = 12
	placeFlag       = 16
	placeQueueOff   = 20
	placePosition   = 28
	placeSysFlag    = 36
	placeBornTime   = 40
	placeBornHost   = 48
	placeStoreTime4 = 56 // with an IPv4 born host

	hostSize4 = 8
	hostSize6 = 20

	// minRecordSize is a V1 record with IPv4 hosts and nothing in it.
	minRecordSize = 91

	// MaxPropertiesSize is what the signed 16-bit length of a record allows.
	MaxPropertiesSize = 32767

	// maxTopicV1 is the longest topic whose length fits a signed byte.
	maxTopicV1 = 127
)

// SysFlag is the system flag of a record and of a send request.
type SysFlag int32

// Bits of a SysFlag.
const (
	FlagCompressed  SysFlag = 0x001
	FlagMultiTags   SysFlag = 0x002
	FlagPrepared    SysFlag = 0x004
	FlagCommit      SysFlag = 0x008
	FlagRollback    SysFlag = 0x00C
	FlagTransaction SysFlag = 0x00C // mask of the three above
	FlagBornV6      SysFlag = 0x010
	FlagStoreV6     SysFlag = 0x020
	FlagNeedUnwrap  SysFlag = 0x040
	FlagInnerBatch  SysFlag = 0x080
	FlagCompression SysFlag = 0x700 // mask of the compression algorithm
)

// Transaction returns the transaction bits: 0, FlagPrepared, FlagCommit or FlagRollback.
func (f SysFlag) Transaction() SysFlag { return f & FlagTransaction }

// WithTransaction returns f with its transaction bits replaced by t.
func (f SysFlag) WithTransaction(t SysFlag) SysFlag { return f&^FlagTransaction | t&FlagTransaction }
