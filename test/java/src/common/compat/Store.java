package compat;

import static compat.Kit.message;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * Fills a broker's store with one of everything and writes down what the running broker says is in it.
 * Arguments: name server, file for what the live broker says, IPv6 address of the broker or "-".
 */
public final class Store {
    static final String[] TOPICS = {"orders", "bulk", "fifo", "txn", "timed", "v6"};

    final Kit k;
    DefaultMQProducer producer;
    private final List<Object> halves = new ArrayList<>();

    Store(Kit k) {
        this.k = k;
    }

    public static void main(String[] args) throws Exception {
        try (Kit k = new Kit(args[0])) {
            var s = new Store(k);
            s.fill(args[2]);
            Thread.sleep(13_000); // offsets and delay progress are saved every 5 and 10 s, a retry comes back after 10 s
            s.fillLast();
            Thread.sleep(700);
            s.live(Path.of(args[1]));
        }
        System.exit(0);
    }

    private static String body(int n) {
        return "message " + n + " " + "abcdefghij".repeat(10 + n % 60);
    }

    private void fill(String v6) throws Exception {
        var admin = k.admin();
        String broker = k.broker();
        int[] queues = {4, 2, 1, 2, 2, 1};
        for (int i = 0; i < TOPICS.length; i++) {
            admin.createAndUpdateTopicConfig(broker, new TopicConfig(TOPICS[i], queues[i], queues[i], 6));
        }
        Version.createGroup(admin, broker, "half-consumed", 16);
        Version.createGroup(admin, broker, "retrying", 16);
        Thread.sleep(1500);
        producer = new DefaultMQProducer("filler");
        producer.setCompressMsgBodyOverHowmuch(8 << 20);
        k.start(producer);
        String name = k.brokerName();
        for (int i = 0; i < 480; i++) {
            Message m = message("orders", i % 3 == 0 ? "created" : i % 3 == 1 ? "paid" : "sent", "order" + i / 2 + (i % 5 == 0 ? " user" + i % 7 : ""), body(i));
            m.putUserProperty("n", Integer.toString(i));
            m.setFlag(i % 4);
            producer.send(m, new MessageQueue("orders", name, i % 4));
        }
        for (int i = 0; i < 6; i++) {
            producer.send(message("bulk", "large", "bulk" + i, ("line " + i + "\n").repeat(9000)), new MessageQueue("bulk", name, i % 2));
        }
        var packer = new DefaultMQProducer("packer");
        packer.setCompressMsgBodyOverHowmuch(1000);
        k.start(packer);
        for (int i = 0; i < 6; i++) {
            packer.send(message("bulk", "packed", "packed" + i, ("zip " + i + " ").repeat(4000)), new MessageQueue("bulk", name, i % 2));
        }
        for (int i = 0; i < 4; i++) {
            var batch = new ArrayList<Message>();
            for (int j = 0; j < 10; j++) {
                Message m = message("fifo", "batch", "batch" + i, "batch " + i + " item " + j);
                m.putUserProperty("item", i + "." + j);
                batch.add(m);
            }
            producer.send(batch, new MessageQueue("fifo", name, 0));
        }
        producer.send(new Message("fifo", Kit.bytes("neither tag nor key")), new MessageQueue("fifo", name, 0));
        consume();
        String longGroup = "long-group-".repeat(14) + "end";
        raw("long retry topic", broker, "%RETRY%" + longGroup, "goes into a V2 record");
        if (!v6.equals("-")) {
            raw("IPv6 born host", v6, "v6", "sent over IPv6");
        }
        for (int i = 0; i < 5; i++) {
            Message m = message("timed", "TagD", "short" + i, "one second " + i);
            m.setDelayTimeLevel(1);
            producer.send(m);
        }
    }

    /** Half of two queues is committed by one group; another group fails two messages, one comes back and one is dead. */
    private void consume() throws Exception {
        var c = new DefaultMQPullConsumer("half-consumed");
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        c.start();
        for (int q = 0; q < 2; q++) {
            var mq = new MessageQueue("orders", k.brokerName(), q);
            var r = c.pull(mq, "*", 0, 32);
            c.updateConsumeOffset(mq, r.getNextBeginOffset() + 17 * q);
            c.getOffsetStore().persist(mq);
        }
        c.shutdown();
        var back = new AtomicInteger();
        var push = k.consumer("retrying");
        push.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        push.subscribe("fifo", "*");
        push.setConsumeMessageBatchMaxSize(1);
        push.setMessageListener((MessageListenerConcurrently) (msgs, ctx) -> {
            int n = back.getAndIncrement();
            if (n == 0) {
                ctx.setDelayLevelWhenNextConsume(-1); // dead at once
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            if (n == 1 || n == 2) {
                ctx.setDelayLevelWhenNextConsume(n == 1 ? 2 : 18); // back after 5 s, and after 2 h
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        push.start();
        Kit.await(15_000, () -> back.get() >= 41);
        Thread.sleep(500);
        push.shutdown();
    }

    /** What a client would not send: any topic name, any route to the broker. */
    private void raw(String what, String addr, String topic, String body) throws Exception {
        var ext = new HashMap<String, String>();
        ext.put("producerGroup", "raw");
        ext.put("topic", topic);
        ext.put("defaultTopic", "TBW102");
        ext.put("defaultTopicQueueNums", "1");
        ext.put("queueId", "0");
        ext.put("sysFlag", "0");
        ext.put("bornTimestamp", Long.toString(System.currentTimeMillis()));
        ext.put("flag", "7");
        ext.put("properties", "KEYS\u0001rawkey\u0002TAGS\u0001raw\u0002");
        ext.put("reconsumeTimes", "0");
        ext.put("unitMode", "false");
        ext.put("maxReconsumeTimes", "3");
        ext.put("batch", "false");
        RemotingCommand req = RemotingCommand.createRequestCommand(10, null);
        req.setExtFields(ext);
        req.setBody(Kit.bytes(body));
        RemotingCommand resp = Kit.remoting(producer).invokeSync(addr, req, 5000);
        System.out.println(what + ": " + resp.getCode() + " " + resp.getRemark());
    }

    /** What must still be waiting when the broker ends. */
    private void fillLast() throws Exception {
        String name = k.brokerName();
        for (int level : new int[] {4, 4, 5, 14, 18, 18}) {
            Message m = message("timed", "TagD", "level" + level, "level " + level);
            m.setDelayTimeLevel(level);
            producer.send(m);
        }
        Version.fillExtra(this);
        transactions();
        for (int i = 480; i < 560; i++) {
            Message m = message("orders", "late", "order" + i, body(i));
            m.putUserProperty("n", Integer.toString(i));
            producer.send(m, new MessageQueue("orders", name, i % 4));
        }
    }

    private void transactions() throws Exception {
        var p = new TransactionMQProducer("txn-group");
        p.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return (LocalTransactionState) arg;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                return LocalTransactionState.UNKNOW;
            }
        });
        k.start(p);
        for (int i = 0; i < 12; i++) {
            var state = i % 3 == 0 ? LocalTransactionState.COMMIT_MESSAGE : i % 3 == 1 ? LocalTransactionState.ROLLBACK_MESSAGE : LocalTransactionState.UNKNOW;
            Message m = message("txn", "TagX", "txn" + i, "transaction " + i + " " + state);
            m.putUserProperty("n", Integer.toString(i));
            var r = p.sendMessageInTransaction(m, state);
            var h = new LinkedHashMap<String, Object>();
            h.put("uniqueKey", r.getMsgId());
            h.put("topic", "txn");
            h.put("queue", r.getMessageQueue().getQueueId());
            h.put("group", "txn-group");
            h.put("state", i % 3 == 0 ? "committed" : i % 3 == 1 ? "rolled back" : "unknown");
            halves.add(h);
        }
        Thread.sleep(1500); // the ends are sent one-way
    }

    private void live(Path out) throws Exception {
        var admin = k.admin();
        var topics = new TreeSet<String>(admin.getAllTopicConfig(k.broker(), 5000).getTopicConfigTable().keySet());
        var c = new DefaultMQPullConsumer("dump");
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        c.start();
        var queues = new ArrayList<Object>();
        for (String topic : topics) {
            if (topic.equals("BenchmarkTest")) {
                continue; // 1024 empty queues
            }
            int n = admin.getAllTopicConfig(k.broker(), 5000).getTopicConfigTable().get(topic).getWriteQueueNums();
            for (int q = 0; q < n; q++) {
                var mq = new MessageQueue(topic, k.brokerName(), q);
                long max = c.maxOffset(mq);
                if (max == 0) {
                    continue;
                }
                var row = new LinkedHashMap<String, Object>();
                row.put("topic", topic);
                row.put("queue", q);
                row.put("min", c.minOffset(mq));
                row.put("max", max);
                row.put("positions", positions(c, mq, max));
                queues.add(row);
            }
        }
        var groups = new ArrayList<Object>();
        for (String[] gt : new String[][] {{"half-consumed", "orders"}, {"retrying", "fifo"}, {"retrying", "%RETRY%retrying"}}) {
            int n = admin.getAllTopicConfig(k.broker(), 5000).getTopicConfigTable().get(gt[1]).getWriteQueueNums();
            for (int q = 0; q < n; q++) {
                RemotingCommand req = RemotingCommand.createRequestCommand(14, null);
                req.setExtFields(new HashMap<>(Map.of("consumerGroup", gt[0], "topic", gt[1], "queueId", "" + q, "setZeroIfNotFound", "false")));
                RemotingCommand resp = Kit.remoting(producer).invokeSync(k.broker(), req, 5000);
                // 4.9 says 0 for a queue of which the group has no offset, whatever the last field is.
                if (resp.getCode() == 0 && !resp.getExtFields().get("offset").equals("0")) {
                    var row = new LinkedHashMap<String, Object>();
                    row.put("group", gt[0]);
                    row.put("topic", gt[1]);
                    row.put("queue", q);
                    row.put("offset", Long.parseLong(resp.getExtFields().get("offset")));
                    groups.add(row);
                }
            }
        }
        var queries = new ArrayList<Object>();
        for (String[] tk : new String[][] {{"orders", "order7"}, {"orders", "order100"}, {"orders", "user3"}, {"orders", "order500"}, {"bulk", "packed2"}, {"fifo", "batch3"}, {"txn", "txn0"}}) {
            var row = new LinkedHashMap<String, Object>();
            row.put("topic", tk[0]);
            row.put("key", tk[1]);
            var found = new ArrayList<Object>();
            for (MessageExt m : admin.queryMessage(tk[0], tk[1], 64, 0, Long.MAX_VALUE).getMessageList()) {
                found.add(m.getCommitLogOffset());
            }
            row.put("positions", found);
            queries.add(row);
        }
        c.shutdown();
        var all = new LinkedHashMap<String, Object>();
        all.put("queues", queues);
        all.put("offsets", groups);
        all.put("queries", queries);
        all.put("halves", halves);
        Files.writeString(out, Json.write(all), StandardCharsets.UTF_8);
    }

    private static List<Object> positions(DefaultMQPullConsumer c, MessageQueue mq, long max) throws Exception {
        var found = new ArrayList<Object>();
        long next = c.minOffset(mq);
        for (int tries = 0; next < max && tries < 500; tries++) {
            var r = c.pull(mq, "*", next, 32);
            if (r.getPullStatus() == PullStatus.FOUND) {
                for (MessageExt m : r.getMsgFoundList()) {
                    found.add(m.getCommitLogOffset());
                }
            }
            next = r.getNextBeginOffset();
        }
        return found;
    }
}
