package compat;

import static compat.Kit.message;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What the two pull consumers do. */
final class Pulling {
    private Pulling() {}

    private static DefaultLitePullConsumer lite(Kit k, String group) {
        var c = new DefaultLitePullConsumer(group);
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setAutoCommit(false);
        k.onClose(c::shutdown);
        return c;
    }

    private static List<MessageExt> poll(DefaultLitePullConsumer c, int n, long ms) {
        var all = new ArrayList<MessageExt>();
        long end = System.currentTimeMillis() + ms;
        while (all.size() < n && System.currentTimeMillis() < end) {
            all.addAll(c.poll(200));
        }
        return all;
    }

    static void liteSubscribe(Kit k) throws Exception {
        String topic = k.createTopic("lite", 4);
        String group = k.group("lite");
        var p = k.producer(k.group("liteprod"));
        for (int i = 0; i < 40; i++) {
            p.send(message(topic, i % 2 == 0 ? "A" : "B", "", "lite " + i));
        }
        var c = lite(k, group);
        c.subscribe(topic, "A");
        c.start();
        k.equal(poll(c, 20, 15_000).size(), 20, "poll gives what has the tag");
        c.commitSync();
        Thread.sleep(500);
        c.shutdown();
        p.send(message(topic, "A", "", "later"));
        var again = lite(k, group);
        again.subscribe(topic, "A");
        again.start();
        var rest = poll(again, 2, 6_000);
        k.equal(rest.stream().map(Kit::text).toList().toString(), "[later]", "after commitSync another one goes on behind it");
    }

    static void liteAssign(Kit k) throws Exception {
        String topic = k.createTopic("assign", 2);
        var p = k.producer(k.group("assignprod"));
        var q = new MessageQueue(topic, k.brokerName(), 1);
        for (int i = 0; i < 20; i++) {
            p.send(message(topic, "", "", "n" + i), q);
        }
        var c = lite(k, k.group("assign"));
        c.start();
        k.equal(c.fetchMessageQueues(topic).size(), 2, "the topic's queues are told");
        c.assign(List.of(q));
        c.seekToBegin(q);
        var all = poll(c, 20, 15_000);
        k.check(all.size() == 20 && Kit.text(all.get(0)).equals("n0"), "from the beginning all 20 come");
        c.seek(q, 15);
        all = poll(c, 5, 10_000);
        k.equal(all.stream().map(Kit::text).toList().toString(), "[n15, n16, n17, n18, n19]", "after seek 15 the last five");
        c.seekToEnd(q);
        k.equal(poll(c, 1, 1500).size(), 0, "at the end nothing");
        p.send(message(topic, "", "", "fresh"), q);
        all = poll(c, 1, 10_000);
        k.check(all.size() == 1 && Kit.text(all.get(0)).equals("fresh"), "but what comes then");
        k.equal(c.offsetForTimestamp(q, 0L), 0L, "the offset of time 0");
        c.commitSync();
        k.awaitEqual(5_000, () -> {
            try {
                return c.committed(q);
            } catch (Exception e) {
                return e;
            }
        }, 21L, "the committed offset can be read");
    }

    static void pull(Kit k) throws Exception {
        String topic = k.createTopic("pull", 1);
        var p = k.producer(k.group("pullprod"));
        for (int i = 0; i < 50; i++) {
            p.send(message(topic, "T" + i % 2, "", "p" + i));
        }
        var c = new DefaultMQPullConsumer(k.group("pull"));
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        k.onClose(c::shutdown);
        c.start();
        var q = c.fetchSubscribeMessageQueues(topic).iterator().next();
        k.equal(c.minOffset(q), 0L, "the first offset");
        k.equal(c.maxOffset(q), 50L, "the end");
        k.equal(c.fetchConsumeOffset(q, true), 0L, "nothing is committed and the queue is whole: 0");
        var r = c.pull(q, "*", 0, 10);
        k.equal(r.getPullStatus() + " " + r.getMsgFoundList().size() + " " + r.getNextBeginOffset() + " " + r.getMinOffset() + " " + r.getMaxOffset(), "FOUND 10 10 0 50", "ten from the front");
        r = c.pull(q, "T1", 0, 10);
        k.check(r.getPullStatus() == PullStatus.FOUND && r.getMsgFoundList().stream().allMatch(m -> m.getTags().equals("T1")), "a tag filters");
        k.equal(r.getMsgFoundList().size() + " " + r.getNextBeginOffset(), "10 20", "ten with the tag reach to offset 20");
        r = c.pull(q, "none", 0, 10);
        k.equal(r.getPullStatus() + " " + r.getNextBeginOffset(), "NO_MATCHED_MSG 50", "no message has the tag");
        r = c.pull(q, "*", 50, 10);
        k.equal(r.getPullStatus() + " " + r.getNextBeginOffset(), "NO_NEW_MSG 50", "at the end there is nothing new");
        r = c.pull(q, "*", 60, 10);
        k.equal(r.getPullStatus() + " " + r.getNextBeginOffset(), "OFFSET_ILLEGAL 50", "behind the end is illegal");
        c.updateConsumeOffset(q, 33);
        c.getOffsetStore().persist(q);
        k.awaitEqual(5_000, () -> {
            try {
                return c.fetchConsumeOffset(q, true);
            } catch (Exception e) {
                return e;
            }
        }, 33L, "a committed offset is kept");
        new Thread(() -> {
            try {
                Thread.sleep(1500);
                p.send(message(topic, "", "", "woken"));
            } catch (Exception e) {
                k.check(false, "send for the waiting pull: " + e);
            }
        }).start();
        long t = System.nanoTime();
        r = c.pullBlockIfNotFound(q, "*", 50, 10);
        long ms = (System.nanoTime() - t) / 1_000_000;
        k.check(r.getPullStatus() == PullStatus.FOUND && ms > 1000 && ms < 5000, "a waiting pull is answered when a message comes: " + r.getPullStatus() + " after " + ms + " ms");
    }
}
