package compat;

import static compat.Kit.message;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** What producers do, and finding again what they sent. */
final class Sending {
    private Sending() {}

    static void sync(Kit k) throws Exception {
        var p = k.producer(k.group("sync"));
        String topic = k.topic("auto");
        var next = new TreeMap<Integer, Long>();
        boolean ok = true;
        boolean dense = true;
        boolean ids = true;
        for (int i = 0; i < 20; i++) {
            SendResult r = p.send(message(topic, "T", "k" + i, "body " + i));
            ok &= r.getSendStatus() == SendStatus.SEND_OK;
            int q = r.getMessageQueue().getQueueId();
            dense &= r.getQueueOffset() == next.getOrDefault(q, 0L);
            next.put(q, r.getQueueOffset() + 1);
            ids &= (r.getMsgId().length() == 32 || r.getMsgId().length() == 56) && (r.getOffsetMsgId().length() == 32 || r.getOffsetMsgId().length() == 56);
        }
        k.check(ok, "20 sends to a topic that nobody created");
        k.check(dense, "queue offsets are dense from 0: " + next);
        k.check(ids, "message ids have 32 or 56 digits");
        k.equal(p.fetchPublishMessageQueues(topic).size(), 4, "the topic has the 4 queues that the producer asked for");
        var q = new MessageQueue(topic, k.brokerName(), 2);
        long before = p.maxOffset(q);
        SendResult r = p.send(message(topic, "", "", "to queue 2"), q);
        k.equal(r.getMessageQueue(), q, "a message for one queue goes there");
        k.equal(r.getQueueOffset(), before, "its offset is the queue's end");
        r = p.send(message(topic, "", "", "by selector"), (queues, m, arg) -> queues.get((Integer) arg), 1);
        k.check(r.getSendStatus() == SendStatus.SEND_OK, "a selector chooses the queue");
    }

    static void async(Kit k) throws Exception {
        var p = k.producer(k.group("async"));
        String topic = k.createTopic("async", 4);
        int n = 100;
        var latch = new CountDownLatch(n);
        var good = new AtomicInteger();
        for (int i = 0; i < n; i++) {
            p.send(message(topic, "T", "", "async " + i), new SendCallback() {
                @Override
                public void onSuccess(SendResult r) {
                    if (r.getSendStatus() == SendStatus.SEND_OK) {
                        good.incrementAndGet();
                    }
                    latch.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    k.check(false, "async send: " + e);
                    latch.countDown();
                }
            });
        }
        k.check(latch.await(20, TimeUnit.SECONDS), "every callback came");
        k.equal(good.get(), n, "all were stored");
        k.awaitEqual(10_000, k.reader(k.group("asyncread"), topic, "*")::size, n, "all are consumed");
    }

    static void oneway(Kit k) throws Exception {
        var p = k.producer(k.group("oneway"));
        String topic = k.createTopic("oneway", 2);
        for (int i = 0; i < 20; i++) {
            p.sendOneway(message(topic, "T", "", "one way " + i));
        }
        var in = k.reader(k.group("onewayread"), topic, "*");
        k.awaitEqual(15_000, () -> in.bodies().size(), 20, "all one-way messages arrive");
    }

    static void batch(Kit k) throws Exception {
        var p = k.producer(k.group("batch"));
        String topic = k.createTopic("batch", 2);
        var items = new ArrayList<Message>();
        for (int i = 0; i < 7; i++) {
            Message m = message(topic, "Tag" + i % 2, "bk" + i, "item " + i);
            m.putUserProperty("item", "" + i);
            items.add(m);
        }
        var q = new MessageQueue(topic, k.brokerName(), 1);
        p.send(message(topic, "", "", "before"), q);
        SendResult r = p.send(items, q);
        k.equal(r.getSendStatus(), SendStatus.SEND_OK, "the batch is stored");
        k.equal(r.getQueueOffset(), 1L, "its offset is that of the first item");
        k.equal(r.getOffsetMsgId().split(",").length, 7, "one offset id for each item");
        var in = k.reader(k.group("batchread"), topic, "Tag0");
        k.awaitEqual(10_000, in::size, 4, "items are filtered by their own tags");
        var m = in.copy().stream().max(java.util.Comparator.comparingLong(x -> x.getQueueOffset())).get();
        k.equal(m.getProperty("item"), "6", "items keep their properties");
        k.equal(m.getQueueOffset(), 7L, "items have consecutive offsets");
        k.equal(p.maxOffset(q), 8L, "the queue ends behind the batch");
    }

    static void large(Kit k) throws Exception {
        var p = new DefaultMQProducer(k.group("large"));
        p.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        p.setMaxMessageSize(8 << 20);
        k.start(p);
        String topic = k.createTopic("large", 1);
        byte[] body = new byte[4 << 20];
        new Random(1).nextBytes(body);
        var in = k.reader(k.group("largeread"), topic, "*");
        k.equal(p.send(new Message(topic, body)).getSendStatus(), SendStatus.SEND_OK, "a body of 4 MiB is stored");
        k.awaitEqual(20_000, in::size, 1, "and consumed");
        k.check(in.size() == 1 && Arrays.equals(in.copy().get(0).getBody(), body), "unchanged");
        k.refused("13", "a body of 4 MiB and one byte is refused as illegal", () -> p.send(new Message(topic, new byte[(4 << 20) + 1])));
        k.equal(p.send(message(topic, "", "", "small again")).getSendStatus(), SendStatus.SEND_OK, "the connection lives on");
        k.refused("13", "properties above 32767 bytes are refused as illegal", () -> {
            Message m = message(topic, "", "", "x");
            m.putUserProperty("long", "v".repeat(32768));
            return p.send(m);
        });
    }

    static void compressed(Kit k) throws Exception {
        var p = k.producer(k.group("compressed"));
        String topic = k.createTopic("compressed", 1);
        var in = k.reader(k.group("compressedread"), topic, "*");
        String body = "compress me ".repeat(10_000);
        p.send(message(topic, "", "", body));
        k.awaitEqual(10_000, in::size, 1, "a compressed message is consumed");
        var m = in.copy().get(0);
        k.check(Kit.text(m).equals(body), "its body is as sent");
        k.check(m.getStoreSize() < 10_000, "it is stored compressed: " + m.getStoreSize());
    }

    static void keys(Kit k) throws Exception {
        var p = k.producer(k.group("keys"));
        String topic = k.createTopic("keys", 2);
        long begin = System.currentTimeMillis();
        for (int i = 0; i < 12; i++) {
            Message m = message(topic, "T", "", "body " + i);
            m.setKeys(List.of("order" + i, "group" + i % 3));
            p.send(m);
        }
        Thread.sleep(1500);
        long end = System.currentTimeMillis() + 60_000;
        k.equal(k.admin().queryMessage(topic, "order7", 32, begin - 60_000, end).getMessageList().size(), 1, "one message has the key");
        var found = k.admin().queryMessage(topic, "group1", 32, begin - 60_000, end).getMessageList();
        k.equal(found.size(), 4, "four messages share a key");
        k.check(found.stream().allMatch(m -> m.getKeys().contains("group1")), "and carry it");
        k.equal(k.admin().queryMessage(topic, "group1", 2, begin - 60_000, end).getMessageList().size(), 2, "the maximum is kept");
        k.refused("208", "an unknown key finds nothing", () -> k.admin().queryMessage(topic, "nobody", 32, 0, end));
        k.refused("208", "a window in the past finds nothing", () -> k.admin().queryMessage(topic, "order7", 32, 0, begin - 3_600_000));
    }

    static void view(Kit k) throws Exception {
        var p = k.producer(k.group("view"));
        String topic = k.createTopic("view", 1);
        SendResult r = p.send(message(topic, "T", "key", "look at me"));
        p.send(message(topic, "T", "key", "not at me"));
        Thread.sleep(1500);
        var byOffset = k.admin().viewMessage(topic, r.getOffsetMsgId());
        k.equal(Kit.text(byOffset), "look at me", "found by its offset id");
        var byUnique = k.admin().viewMessage(topic, r.getMsgId());
        k.equal(Kit.text(byUnique), "look at me", "found by its unique id");
        k.equal(byUnique.getMsgId(), r.getMsgId(), "its id is the unique id");
        k.refused("", "an id that nobody has is refused", () -> k.admin().viewMessage(topic, r.getOffsetMsgId().substring(0, r.getOffsetMsgId().length() - 8) + "7FFFFFF0"));
    }

    static void trace(Kit k) throws Exception {
        String topic = k.createTopic("trace", 1);
        var p = k.start(new DefaultMQProducer(k.group("trace"), true, null));
        var c = new DefaultMQPushConsumer(k.group("traceread"), true, null);
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        var in = new Kit.Inbox();
        c.subscribe(topic, "*");
        c.setMessageListener(in);
        k.onClose(c::shutdown);
        c.start();
        SendResult r = p.send(message(topic, "T", "tracekey", "traced"));
        k.awaitEqual(10_000, in::size, 1, "a traced message is consumed");
        var kinds = new java.util.TreeSet<String>();
        Kit.await(30_000, () -> {
            try {
                for (var m : k.admin().queryMessage("RMQ_SYS_TRACE_TOPIC", r.getMsgId(), 32, 0, Long.MAX_VALUE).getMessageList()) {
                    for (String line : Kit.text(m).split("\u0002")) {
                        if (line.contains(r.getMsgId())) {
                            kinds.add(line.substring(0, line.indexOf('\u0001')));
                        }
                    }
                }
            } catch (Exception e) {
                return false; // nothing yet
            }
            return kinds.size() >= 3;
        });
        k.equal(kinds.toString(), "[Pub, SubAfter, SubBefore]", "the trace topic tells of sending and consuming");
    }

    static void refused(Kit k) throws Exception {
        var p = k.producer(k.group("refused"));
        k.refused("characters", "a topic name with a blank is refused by the client", () -> p.send(message("no good", "", "", "x")));
        k.refused("", "a batch with a delay is refused", () -> {
            Message m = message(k.topic("x"), "", "", "x");
            m.setDelayTimeLevel(1);
            return p.send(List.of(m));
        });
        String topic = k.createTopic("refused", 1);
        k.refused("29", "a queue that the topic does not have is refused", () -> p.send(message(topic, "", "", "x"), new MessageQueue(topic, k.brokerName(), 7)));
        k.equal(p.send(message(topic, "", "", "x")).getSendStatus(), SendStatus.SEND_OK, "after all that a good message is stored");
    }
}
