package compat;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * Reads a store folder with Apache's own record decoder and joins it with what the live broker said.
 * Arguments: store folder, version, "clean" or "kill", file of Store, manifest to write.
 */
public final class RawLog {
    private static final int BLANK = 0xCBD43194;

    public static void main(String[] args) throws Exception {
        Path store = Path.of(args[0]);
        var records = new ArrayList<Object>();
        var blanks = new ArrayList<Object>();
        long end = 0;
        long size = 0;
        for (Path file : files(store.resolve("commitlog"))) {
            long base = Long.parseLong(file.getFileName().toString());
            ByteBuffer all = read(file);
            size = all.capacity();
            int at = 0;
            while (at + 8 <= all.capacity()) {
                int length = all.getInt(at);
                int magic = all.getInt(at + 4);
                if (length == 0) {
                    break;
                }
                if (magic == BLANK) {
                    var b = new LinkedHashMap<String, Object>();
                    b.put("position", base + at);
                    b.put("size", length);
                    blanks.add(b);
                    end = base + size;
                    break;
                }
                records.add(record(all.slice(at, length), base + at, length, magic));
                at += length;
                end = base + at;
            }
        }
        var m = new LinkedHashMap<String, Object>();
        m.put("apache", args[1]);
        m.put("stop", args[2]);
        m.put("segmentSize", size);
        m.put("end", end);
        m.put("abort", Files.exists(store.resolve("abort")));
        m.put("live", new Json.Raw(Files.readString(Path.of(args[3]))));
        m.put("entries", entries(store.resolve("consumequeue")));
        m.put("pending", pending(store, records));
        m.put("blanks", blanks);
        m.put("records", records);
        Files.writeString(Path.of(args[4]), Json.write(m));
        System.out.println(records.size() + " records, " + blanks.size() + " blanks, end " + end);
    }

    /** What waits for its time: of the levels what lies behind the saved progress, of the timer everything (all due in hours). */
    private static List<Object> pending(Path store, List<Object> records) throws Exception {
        var done = new HashMap<Integer, Long>();
        var text = Files.readString(store.resolve("config/delayOffset.json"));
        var pairs = Pattern.compile("\"?(\\d+)\"?:(\\d+)").matcher(text.substring(text.indexOf("offsetTable")));
        while (pairs.find()) {
            done.put(Integer.parseInt(pairs.group(1)), Long.parseLong(pairs.group(2)));
        }
        var all = new ArrayList<Object>();
        for (Object o : records) {
            var r = (Map<?, ?>) o;
            var props = (Map<?, ?>) r.get("properties");
            var row = new LinkedHashMap<String, Object>();
            if (r.get("topic").equals("SCHEDULE_TOPIC_XXXX")) {
                int level = (Integer) r.get("queue") + 1;
                long offset = (Long) r.get("offset");
                if (offset < done.getOrDefault(level, 0L)) {
                    continue;
                }
                row.put("kind", "level");
                row.put("level", level);
                row.put("due", tagCode(store, level - 1, offset));
            } else if (r.get("topic").equals("rmq_sys_wheel_timer")) {
                row.put("kind", "timer");
                row.put("level", 0);
                row.put("due", Long.parseLong((String) props.get("TIMER_OUT_MS")));
            } else {
                continue;
            }
            row.put("position", r.get("position"));
            row.put("topic", props.get("REAL_TOPIC"));
            row.put("queue", Integer.parseInt((String) props.get("REAL_QID")));
            row.put("uniqueKey", props.get("UNIQ_KEY"));
            all.add(row);
        }
        return all;
    }

    /** For a schedule queue the tag code of a row is the due time. */
    private static long tagCode(Path store, int queue, long offset) throws Exception {
        for (Path f : files(store.resolve("consumequeue/SCHEDULE_TOPIC_XXXX/" + queue))) {
            ByteBuffer b = read(f);
            long at = offset * 20 - Long.parseLong(f.getFileName().toString());
            if (at < b.capacity()) {
                return b.getLong((int) at + 12);
            }
        }
        throw new IllegalStateException("no row " + offset + " in schedule queue " + queue);
    }

    private static List<Path> files(Path dir) throws Exception {
        try (var s = Files.list(dir)) {
            return s.filter(Files::isRegularFile).sorted().toList();
        }
    }

    private static ByteBuffer read(Path file) throws Exception {
        return ByteBuffer.wrap(Files.readAllBytes(file));
    }

    private static Object record(ByteBuffer bytes, long position, int length, int magic) throws Exception {
        MessageExt m = MessageDecoder.decode(bytes.duplicate(), true, false);
        if (m == null || m.getStoreSize() != length || m.getCommitLogOffset() != position) {
            throw new IllegalStateException("Apache's decoder refuses the record at " + position);
        }
        var r = new LinkedHashMap<String, Object>();
        r.put("position", position);
        r.put("size", length);
        r.put("version", magic == 0xDAA320A7 ? 1 : 2);
        r.put("topic", m.getTopic());
        r.put("queue", m.getQueueId());
        r.put("offset", m.getQueueOffset());
        r.put("flag", m.getFlag());
        r.put("sysFlag", m.getSysFlag());
        r.put("bodyCRC", m.getBodyCRC());
        byte[] body = m.getBody() == null ? new byte[0] : m.getBody();
        r.put("bodySize", body.length);
        r.put("bodySHA256", HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body)));
        r.put("bornTime", m.getBornTimestamp());
        r.put("bornHost", host(m.getBornHost()));
        r.put("storeTime", m.getStoreTimestamp());
        r.put("storeHost", host(m.getStoreHost()));
        r.put("reconsumeTimes", m.getReconsumeTimes());
        r.put("preparedOffset", m.getPreparedTransactionOffset());
        r.put("properties", new TreeMap<>(m.getProperties()));
        return r;
    }

    private static String host(java.net.SocketAddress a) {
        var i = (java.net.InetSocketAddress) a;
        String h = i.getAddress().getHostAddress();
        return i.getAddress() instanceof java.net.Inet6Address ? "[" + h + "]:" + i.getPort() : h + ":" + i.getPort();
    }

    /** Every consume-queue row as [position, size, tag code], up to the first row of size zero. */
    private static List<Object> entries(Path dir) throws Exception {
        var all = new ArrayList<Object>();
        try (var topics = Files.list(dir)) {
            for (Path topic : topics.sorted().toList()) {
                try (var queues = Files.list(topic)) {
                    for (Path queue : queues.sorted().toList()) {
                        var row = new LinkedHashMap<String, Object>();
                        row.put("topic", topic.getFileName().toString());
                        row.put("queue", Integer.parseInt(queue.getFileName().toString()));
                        var rows = new ArrayList<Object>();
                        var names = files(queue);
                        row.put("first", Long.parseLong(names.get(0).getFileName().toString()) / 20);
                        for (Path f : names) {
                            ByteBuffer b = read(f);
                            row.put("fileSize", b.capacity());
                            while (b.remaining() >= 20) {
                                long pos = b.getLong();
                                int size = b.getInt();
                                long tag = b.getLong();
                                if (size == 0) {
                                    break;
                                }
                                rows.add(List.of(pos, size, tag));
                            }
                        }
                        row.put("rows", rows);
                        all.add(row);
                    }
                }
            }
        }
        return all;
    }
}
