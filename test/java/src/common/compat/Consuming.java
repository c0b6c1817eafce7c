package compat;

import static compat.Kit.message;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** What push consumers do. */
final class Consuming {
    private Consuming() {}

    static void push(Kit k) throws Exception {
        String topic = k.createTopic("push", 4);
        var p = k.producer(k.group("push"));
        var in = k.reader(k.group("pushread"), topic, "*");
        for (int i = 0; i < 100; i++) {
            Message m = message(topic, "T", "key" + i, "push " + i);
            m.putUserProperty("n", "" + i);
            m.setFlag(i);
            p.send(m);
        }
        k.awaitEqual(15_000, () -> in.bodies().size(), 100, "every message arrives");
        Thread.sleep(500);
        k.equal(in.size(), 100, "once");
        boolean whole = true;
        for (var m : in.copy()) {
            String n = m.getProperty("n");
            whole &= Kit.text(m).equals("push " + n) && m.getKeys().equals("key" + n) && m.getTags().equals("T") && m.getFlag() == Integer.parseInt(n)
                && m.getTopic().equals(topic) && m.getReconsumeTimes() == 0 && m.getBornTimestamp() > 0 && m.getStoreTimestamp() >= m.getBornTimestamp() - 1000;
        }
        k.check(whole, "with body, key, tag, flag, property and times");
    }

    static void tags(Kit k) throws Exception {
        String topic = k.createTopic("tags", 2);
        var p = k.producer(k.group("tags"));
        for (int i = 0; i < 30; i++) {
            p.send(message(topic, List.of("TagA", "TagB", "TagC").get(i % 3), "", i % 3 + " " + i));
        }
        p.send(message(topic, null, "", "untagged"));
        var ab = k.reader(k.group("ab"), topic, "TagA || TagB");
        var c = k.reader(k.group("c"), topic, "TagC");
        var all = k.reader(k.group("all"), topic, "*");
        k.awaitEqual(15_000, ab::size, 20, "TagA || TagB gets 20");
        k.awaitEqual(15_000, c::size, 10, "TagC gets 10");
        k.awaitEqual(15_000, all::size, 31, "* gets all, also what has no tag");
        Thread.sleep(500);
        k.check(ab.bodies().stream().noneMatch(b -> b.startsWith("2")), "none of them has another tag");
        // Aa and BB have one hash code in Java: the broker lets both through, the client must still tell them apart.
        var aa = k.reader(k.group("aa"), topic, "Aa");
        p.send(message(topic, "BB", "", "collides"));
        p.send(message(topic, "Aa", "", "wanted"));
        k.awaitEqual(10_000, () -> aa.bodies().toString(), "[wanted]", "a tag with an equal hash code is not delivered");
    }

    static void orderly(Kit k) throws Exception {
        String topic = k.createTopic("orderly", 4);
        var p = k.producer(k.group("orderly"));
        for (int i = 0; i < 100; i++) {
            p.send(message(topic, "T", "", "" + i / 4), new MessageQueue(topic, k.brokerName(), i % 4));
        }
        var seen = new ConcurrentHashMap<Integer, List<Integer>>();
        var threads = new ConcurrentHashMap<Integer, AtomicInteger>();
        var overlapped = new AtomicBoolean();
        var paused = new AtomicBoolean();
        var c = k.consumer(k.group("orderlyread"));
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setConsumeMessageBatchMaxSize(3);
        c.subscribe(topic, "*");
        c.setMessageListener((MessageListenerOrderly) (msgs, ctx) -> {
            int q = ctx.getMessageQueue().getQueueId();
            var busy = threads.computeIfAbsent(q, x -> new AtomicInteger());
            if (busy.incrementAndGet() > 1) {
                overlapped.set(true);
            }
            try {
                if (q == 2 && paused.compareAndSet(false, true)) {
                    return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                }
                var list = seen.computeIfAbsent(q, x -> Collections.synchronizedList(new ArrayList<>()));
                msgs.forEach(m -> list.add(Integer.parseInt(Kit.text(m))));
                return ConsumeOrderlyStatus.SUCCESS;
            } finally {
                busy.decrementAndGet();
            }
        });
        c.start();
        k.awaitEqual(40_000, () -> seen.values().stream().mapToInt(List::size).sum(), 100, "all are consumed");
        k.check(seen.values().stream().allMatch(l -> l.equals(l.stream().sorted().toList())), "each queue in the order of sending, the suspended one too");
        k.check(!overlapped.get(), "a queue is never with two threads");
    }

    static void broadcast(Kit k) throws Exception {
        String topic = k.createTopic("broadcast", 4);
        var p = k.producer(k.group("broadcast"));
        var boxes = new ArrayList<Kit.Inbox>();
        for (int i = 0; i < 2; i++) {
            var c = k.consumer(k.group("broadcastread"));
            Version.broadcasting(c);
            var in = new Kit.Inbox();
            c.subscribe(topic, "*");
            c.setMessageListener(in);
            c.start();
            boxes.add(in);
            k.awaitEqual(10_000, () -> Kit.held(c, topic), 4L, "member " + i + " has all 4 queues");
        }
        Thread.sleep(500);
        for (int i = 0; i < 20; i++) {
            p.send(message(topic, "", "", "all " + i));
        }
        for (var in : boxes) {
            k.awaitEqual(10_000, () -> in.bodies().size(), 20, "every member gets every message");
        }
    }

    static void rebalance(Kit k) throws Exception {
        String topic = k.createTopic("rebalance", 8);
        String group = k.group("rebalanceread");
        var p = k.producer(k.group("rebalance"));
        var seen = new TreeSet<String>();
        org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently listener = (msgs, ctx) -> {
            synchronized (seen) {
                msgs.forEach(m -> seen.add(Kit.text(m)));
            }
            return org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        };
        var first = k.consumer(group);
        first.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        first.subscribe(topic, "*");
        first.setMessageListener(listener);
        first.start();
        k.awaitEqual(10_000, () -> Kit.held(first, topic), 8L, "the first member has all 8 queues");
        var second = k.consumer(group);
        second.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        second.subscribe(topic, "*");
        second.setMessageListener(listener);
        second.start();
        long joined = System.nanoTime();
        k.awaitEqual(10_000, () -> Kit.held(first, topic), 4L, "the second one takes 4 of them");
        k.awaitEqual(10_000, () -> Kit.held(second, topic), 4L, "and holds them");
        k.note("settled after " + (System.nanoTime() - joined) / 1_000_000 + " ms");
        k.equal(k.admin().examineConsumerConnectionInfo(group).getConnectionSet().size(), 2, "the broker knows both");
        for (int i = 0; i < 80; i++) {
            p.send(message(topic, "", "", "msg " + i));
        }
        Kit.await(10_000, () -> {
            synchronized (seen) {
                return seen.size() == 80;
            }
        });
        second.shutdown();
        long left = System.nanoTime();
        k.awaitEqual(10_000, () -> Kit.held(first, topic), 8L, "the first one takes all when the second leaves");
        k.note("settled after " + (System.nanoTime() - left) / 1_000_000 + " ms");
        for (int i = 80; i < 120; i++) {
            p.send(message(topic, "", "", "msg " + i));
        }
        k.awaitEqual(15_000, () -> {
            synchronized (seen) {
                return seen.size();
            }
        }, 120, "nothing is missed");
    }

    static void resume(Kit k) throws Exception {
        String topic = k.createTopic("resume", 2);
        String group = k.group("resumeread");
        var p = k.producer(k.group("resume"));
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < 20; i++) {
                p.send(message(topic, "", "", "round " + round + " " + i));
            }
            var in = new Kit.Inbox();
            var c = k.consumer(group);
            c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            c.subscribe(topic, "*");
            c.setMessageListener(in);
            c.start();
            k.awaitEqual(15_000, in::size, 20, "round " + round + " gets its 20 messages");
            Thread.sleep(1500);
            String mine = "round " + round;
            k.check(in.bodies().stream().allMatch(b -> b.startsWith(mine)), "and no old ones");
            k.equal(in.size(), 20, "each once");
            c.shutdown();
        }
    }

    /** A group without offsets, on a topic whose first message is still there: Apache's broker says 0 whatever the client wishes. */
    static void fromWhere(Kit k) throws Exception {
        String topic = k.createTopic("where", 1);
        var p = k.producer(k.group("where"));
        for (int i = 0; i < 5; i++) {
            p.send(message(topic, "", "", "old " + i));
        }
        Thread.sleep(2200);
        long middle = System.currentTimeMillis();
        Thread.sleep(1200);
        p.send(message(topic, "", "", "new"));
        var boxes = new ArrayList<Kit.Inbox>();
        for (var where : List.of(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP)) {
            var in = new Kit.Inbox();
            var c = k.consumer(k.group(where.name()));
            c.setConsumeFromWhere(where);
            c.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(middle));
            c.subscribe(topic, "*");
            c.setMessageListener(in);
            c.start();
            boxes.add(in);
        }
        k.awaitEqual(10_000, () -> boxes.get(0).size(), 6, "FIRST begins with the first message");
        k.awaitEqual(10_000, () -> boxes.get(1).size(), 6, "LAST on a topic that is whole begins with the first message too");
        k.awaitEqual(10_000, () -> boxes.get(2).size(), 6, "TIMESTAMP on a topic that is whole begins with the first message too");
        var q = new MessageQueue(topic, k.brokerName(), 0);
        k.equal(p.searchOffset(q, middle), 5L, "the offset of a time is that of the first message stored then or later");
        k.equal(p.searchOffset(q, 0), 0L, "of time 0 it is the first");
        k.check(p.earliestMsgStoreTime(q) > middle - 60_000, "the earliest store time is told");
    }

    static void latency(Kit k) throws Exception {
        String topic = k.createTopic("latency", 1);
        var p = k.producer(k.group("latency"));
        var in = new Kit.Inbox();
        var c = k.consumer(k.group("latencyread"));
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.subscribe(topic, "*");
        c.setMessageListener(in);
        c.start();
        k.awaitEqual(10_000, () -> Kit.held(c, topic), 1L, "the queue is held");
        // The first pulls can be refused for 30 s as newer than the last heartbeat, see PATIENCE.
        p.send(message(topic, "", "", "first"));
        k.awaitEqual(10_000, in::size, 1, "the first message arrives");
        long worst = 0;
        for (int i = 0; i < 10; i++) {
            int want = i + 2;
            long t = System.nanoTime();
            p.send(message(topic, "", "", "m" + i));
            Kit.await(20_000, () -> in.size() >= want);
            worst = Math.max(worst, (System.nanoTime() - t) / 1_000_000);
            Thread.sleep(50);
        }
        k.check(worst < 2000, "a parked pull is answered when a message comes, at worst after " + worst + " ms");
    }
}
