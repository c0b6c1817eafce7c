package compat;

import static compat.Kit.message;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageRequestMode;

/** What only the 5.x client can do: messages at any time, recall, pop. */
final class Scenarios5 {
    private Scenarios5() {}

    static boolean run(String name, Kit k) throws Exception {
        switch (name) {
            case "timer" -> timer(k);
            case "recall" -> recall(k);
            case "pop" -> pop(k);
            case "pop-dead" -> popDead(k);
            case "pop-orderly-listener" -> popOrderly(k);
            default -> {
                return false;
            }
        }
        return true;
    }

    private static void timer(Kit k) throws Exception {
        String topic = k.createTopic("timer", 2);
        var p = k.producer(k.group("timer"));
        var arrived = new ConcurrentHashMap<String, Long>();
        var c = k.consumer(k.group("timerread"));
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.subscribe(topic, "*");
        c.setMessageListener((MessageListenerConcurrently) (msgs, ctx) -> {
            msgs.forEach(m -> arrived.put(Kit.text(m) + " " + m.getTopic().equals(topic) + " " + m.getTags(), System.currentTimeMillis()));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        k.awaitEqual(10_000, () -> Kit.held(c, topic), 2L, "the queues are held");
        Thread.sleep(500);
        var due = new ConcurrentHashMap<String, Long>();
        for (String how : List.of("ms", "seconds", "instant", "past")) {
            Message m = message(topic, "T", "", how);
            long now = System.currentTimeMillis();
            switch (how) {
                case "ms" -> {
                    m.setDelayTimeMs(4300);
                    due.put(how, now + 4300);
                }
                case "seconds" -> {
                    m.setDelayTimeSec(3);
                    due.put(how, now + 3000);
                }
                case "instant" -> {
                    m.setDeliverTimeMs(now + 5250);
                    due.put(how, now + 5250);
                }
                default -> {
                    m.setDeliverTimeMs(now - 1000);
                    due.put(how, now);
                }
            }
            p.send(m);
        }
        k.awaitEqual(20_000, arrived::size, 4, "all arrive");
        for (String how : List.of("ms", "seconds", "instant", "past")) {
            long late = arrived.getOrDefault(how + " true T", 0L) - due.get(how);
            k.check(late >= -5 && late < 3000, how + ": late by " + late + " ms");
        }
        k.refused("13", "eleven years ahead is refused as illegal", () -> {
            Message m = message(topic, "T", "", "far");
            m.setDelayTimeSec(11L * 366 * 86_400);
            return p.send(m);
        });
    }

    /** Wants a server with recallMessageEnable=true. */
    private static void recall(Kit k) throws Exception {
        String topic = k.createTopic("recall", 1);
        var p = k.producer(k.group("recall"));
        var in = k.reader(k.group("recallread"), topic, "*");
        var results = new ArrayList<SendResult>();
        for (int i = 0; i < 2; i++) {
            Message m = message(topic, "T", "", "timed " + i);
            m.setDelayTimeMs(7000);
            results.add(p.send(m));
        }
        k.check(results.get(0).getRecallHandle() != null, "a timed message has a recall handle");
        String id = p.recallMessage(topic, results.get(0).getRecallHandle());
        k.equal(id, results.get(0).getMsgId(), "recall answers the message's unique id");
        k.awaitEqual(15_000, () -> in.bodies().toString(), "[timed 1]", "the other one arrives");
        Thread.sleep(3000);
        k.equal(in.size(), 1, "the recalled one does not");
        k.refused("", "a forged handle is refused", () -> p.recallMessage(topic, "bm8gaGFuZGxl"));
        k.refused("", "an old handle is refused", () -> p.recallMessage(topic, results.get(1).getRecallHandle()));
        k.check(p.send(message(topic, "", "", "plain")).getRecallHandle() == null, "a plain message has none");
    }

    private static void pop(Kit k) throws Exception {
        String topic = k.createTopic("pop", 4);
        String group = k.group("popread");
        k.createGroup(group, 5);
        k.admin().setMessageRequestMode(k.broker(), topic, group, MessageRequestMode.POP, 8, 5000);
        var p = k.producer(k.group("pop"));
        for (int i = 0; i < 60; i++) {
            p.send(message(topic, i % 2 == 0 ? "even" : "odd", "", "pop " + i));
        }
        var seen = Collections.synchronizedList(new ArrayList<MessageExt>());
        var failed = new AtomicInteger();
        for (int i = 0; i < 2; i++) {
            var c = k.consumer(group);
            c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            c.setClientRebalance(false);
            c.setPopInvisibleTime(20_000);
            c.subscribe(topic, "*");
            c.setMessageListener((MessageListenerConcurrently) (msgs, ctx) -> {
                for (MessageExt m : msgs) {
                    if (Kit.text(m).equals("pop 7") && failed.getAndIncrement() == 0) {
                        ctx.setDelayLevelWhenNextConsume(1);
                        return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                    }
                }
                seen.addAll(msgs);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            c.start();
        }
        k.awaitEqual(60_000, () -> {
            synchronized (seen) {
                return (int) seen.stream().map(Kit::text).distinct().count();
            }
        }, 60, "two members pop everything");
        k.check(failed.get() >= 2, "what failed is given out again");
        synchronized (seen) {
            k.equal(seen.size(), 60, "each message is consumed once");
            k.check(seen.stream().filter(m -> Kit.text(m).equals("pop 7")).allMatch(m -> m.getReconsumeTimes() > 0), "and says that it is tried again");
        }
    }

    /** A message that fails each time goes to the dead letters after its last attempt; tags choose. */
    private static void popDead(Kit k) throws Exception {
        String topic = k.createTopic("popdead", 2);
        String group = k.group("popdeadread");
        k.createGroup(group, 1);
        k.admin().setMessageRequestMode(k.broker(), topic, group, MessageRequestMode.POP, 0, 5000);
        var p = k.producer(k.group("popdead"));
        for (int i = 0; i < 10; i++) {
            p.send(message(topic, i % 2 == 0 ? "even" : "odd", "key" + i, "n" + i));
        }
        var tries = Collections.synchronizedList(new ArrayList<Integer>());
        var good = ConcurrentHashMap.<String>newKeySet();
        var c = k.consumer(group);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setClientRebalance(false);
        c.subscribe(topic, "even");
        c.setMessageListener((MessageListenerConcurrently) (msgs, ctx) -> {
            for (MessageExt m : msgs) {
                if (Kit.text(m).equals("n4")) {
                    tries.add(m.getReconsumeTimes());
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER; // after 10 s, then 30 s
                }
                good.add(Kit.text(m) + " " + m.getTopic().equals(topic));
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        k.awaitEqual(60_000, () -> {
            try {
                var stats = k.admin().examineTopicStats("%DLQ%" + group);
                return stats.getOffsetTable().values().stream().mapToLong(o -> o.getMaxOffset()).sum();
            } catch (Exception e) {
                return 0L; // the topic is not there yet
            }
        }, 1L, "after its last attempt it is among the dead letters");
        k.equal(tries.toString(), "[0, 1]", "it was tried twice");
        k.equal(new java.util.TreeSet<>(good).toString(), "[n0 true, n2 true, n6 true, n8 true]", "the others of the tag came once");
    }

    /** An orderly listener gets all that is popped; the client asks for no order. */
    private static void popOrderly(Kit k) throws Exception {
        String topic = k.createTopic("poporderly", 1);
        String group = k.group("poporderlyread");
        k.createGroup(group, 5);
        k.admin().setMessageRequestMode(k.broker(), topic, group, MessageRequestMode.POP, 0, 5000);
        var p = k.producer(k.group("poporderly"));
        for (int i = 0; i < 20; i++) {
            p.send(message(topic, "T", "", "n" + i));
        }
        var seen = ConcurrentHashMap.<String>newKeySet();
        var c = k.consumer(group);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setClientRebalance(false);
        c.subscribe(topic, "*");
        c.setMessageListener((MessageListenerOrderly) (msgs, ctx) -> {
            msgs.forEach(m -> seen.add(Kit.text(m)));
            return ConsumeOrderlyStatus.SUCCESS;
        });
        c.start();
        k.awaitEqual(60_000, seen::size, 20, "all come");
    }
}
