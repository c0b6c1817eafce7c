package compat;

import static compat.Kit.message;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.RequestCallback;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** One of everything a client asks for, to be recorded by test/record. Arguments: name server, label. */
public final class Traffic {
    interface Step {
        void run() throws Exception;
    }

    final Kit k;
    final String label;
    String topic;

    Traffic(Kit k, String label) {
        this.k = k;
        this.label = label;
    }

    void step(String name, Step s) {
        try {
            s.run();
            System.out.println("did " + name);
        } catch (Throwable e) {
            System.out.println("refused " + name + ": " + Kit.firstLine(String.valueOf(e)));
        }
    }

    public static void main(String[] args) throws Exception {
        try (Kit k = new Kit(args[0])) {
            new Traffic(k, args[1]).run();
        }
        System.exit(0);
    }

    void run() throws Exception {
        var admin = k.admin();
        String broker = k.broker();
        topic = "rec_" + label;
        step("create topic", () -> admin.createAndUpdateTopicConfig(broker, new TopicConfig(topic, 2, 2, 6)));
        step("create group", () -> Version.createGroup(admin, broker, "rec_push_" + label, 3));
        Kit.await(5000, () -> {
            try {
                return admin.examineTopicRouteInfo(topic) != null;
            } catch (Exception e) {
                return false;
            }
        });
        var p = new DefaultMQProducer("rec_prod_" + label);
        if (Version.MAJOR == 4) {
            p.setCompressMsgBodyOverHowmuch(1024);
        }
        k.start(p);
        var sent = new ArrayList<SendResult>();
        step("sync", () -> {
            Message m = message(topic, "TagA", "k1 k2", "hello");
            m.putUserProperty("a", "1");
            m.putUserProperty("name", "\u6d88\u606f");
            sent.add(p.send(m));
            sent.add(p.send(message(topic, "TagB", "k3", "world"), new MessageQueue(topic, k.brokerName(), 1)));
        });
        step("compressed", () -> p.send(message(topic, "TagA", "big", "x".repeat(6000))));
        step("auto created topic", () -> p.send(message(topic + "_auto", "", "", "auto")));
        step("one-way", () -> p.sendOneway(message(topic, "TagA", "ow", "one way")));
        step("batch", () -> p.send(List.of(message(topic, "TagA", "b1", "batch 1"), message(topic, "TagB", "b2", "batch 2"))));
        step("delay level", () -> {
            Message m = message(topic, "TagA", "d", "delayed");
            m.setDelayTimeLevel(1);
            p.send(m);
        });
        step("async", () -> {
            var done = new CountDownLatch(1);
            p.send(message(topic, "TagA", "as", "async"), new SendCallback() {
                @Override
                public void onSuccess(SendResult r) {
                    done.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    done.countDown();
                }
            });
            done.await(5, TimeUnit.SECONDS);
        });
        step("illegal name", () -> k.start(new DefaultMQProducer("rec_ill_" + label)).send(message("TBW102", "", "", "x")));
        step("system topic", () -> p.send(message("SCHEDULE_TOPIC_XXXX", "", "", "x")));
        step("queues", () -> p.fetchPublishMessageQueues(topic));
        var q0 = new MessageQueue(topic, k.brokerName(), 0);
        step("max", () -> p.maxOffset(q0));
        step("min", () -> p.minOffset(q0));
        step("earliest", () -> p.earliestMsgStoreTime(q0));
        step("search", () -> p.searchOffset(q0, System.currentTimeMillis()));
        Thread.sleep(1500);
        step("view", () -> admin.viewMessage(topic, sent.get(0).getOffsetMsgId()));
        step("view unknown", () -> admin.viewMessage(topic, sent.get(0).getOffsetMsgId().substring(0, 24) + "7FFFFFFF"));
        step("query", () -> admin.queryMessage(topic, "k1", 32, 0, Long.MAX_VALUE));
        step("query unknown", () -> admin.queryMessage(topic, "nobody", 32, 0, Long.MAX_VALUE));
        step("query unique", () -> admin.viewMessage(topic, sent.get(1).getMsgId()));
        step("pull", this::pull);
        step("lite pull", this::litePull);
        step("push", () -> push(admin));
        step("orderly", this::orderly);
        step("transactions", this::transactions);
        step("request", this::request);
        Version.trafficExtra(this);
        step("topics", admin::fetchAllTopicList);
        step("topics of cluster", () -> admin.fetchTopicsByCLuster(k.cluster()));
        step("cluster", admin::examineBrokerClusterInfo);
        step("runtime", () -> admin.fetchBrokerRuntimeStats(broker));
        step("config", () -> admin.getBrokerConfig(broker));
        step("topic stats", () -> admin.examineTopicStats(topic));
        step("consume stats", () -> admin.examineConsumeStats("rec_push_" + label));
        step("consume stats in broker", () -> admin.fetchConsumeStatsInBroker(broker, false, 5000));
        step("all topic config", () -> admin.getAllTopicConfig(broker, 5000));
        step("all groups", () -> admin.getAllSubscriptionGroup(broker, 5000));
        step("who consumes", () -> admin.queryTopicConsumeByWho(topic));
        step("time span", () -> admin.queryConsumeTimeSpan(topic, "rec_push_" + label));
        step("reset", () -> admin.resetOffsetByTimestamp(topic, "rec_push_" + label, 0, true));
        step("clone", () -> admin.cloneGroupOffset("rec_push_" + label, "rec_clone_" + label, topic, true));
        step("put kv", () -> admin.createAndUpdateKvConfig("NS_" + label, "key", "value"));
        step("get kv", () -> admin.getKVConfig("NS_" + label, "key"));
        step("list kv", () -> admin.getKVListByNamespace("NS_" + label));
        step("delete kv", () -> admin.deleteKvConfig("NS_" + label, "key"));
        step("get kv gone", () -> admin.getKVConfig("NS_" + label, "key"));
        step("wipe", () -> admin.wipeWritePermOfBroker(k.namesrv, k.brokerName()));
        step("add write", () -> admin.addWritePermOfBroker(k.namesrv, k.brokerName()));
        step("unknown route", () -> admin.examineTopicRouteInfo("no_such_topic_" + label));
        step("clean unused", () -> admin.cleanUnusedTopic(k.cluster()));
        step("delete group", () -> admin.deleteSubscriptionGroup(broker, "rec_clone_" + label));
        step("delete topic broker", () -> admin.deleteTopicInBroker(Set.of(broker), topic + "_auto"));
        step("delete topic namesrv", () -> Version.deleteInNamesrv(admin, Set.of(k.namesrv), k.cluster(), topic + "_auto"));
    }

    private void pull() throws Exception {
        var c = new DefaultMQPullConsumer("rec_pull_" + label);
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        c.start();
        try {
            for (var q : c.fetchSubscribeMessageQueues(topic)) {
                c.fetchConsumeOffset(q, true);
                var r = c.pull(q, "TagA || TagC", 0, 16);
                c.updateConsumeOffset(q, r.getNextBeginOffset());
                c.pull(q, "*", 999, 16);
                c.pull(q, "NoSuchTag", 0, 16);
                c.getOffsetStore().persist(q);
                c.fetchConsumeOffset(q, true);
            }
            var r = c.pull(new MessageQueue(topic, k.brokerName(), 0), "*", 0, 1);
            if (!r.getMsgFoundList().isEmpty()) {
                MessageExt m = r.getMsgFoundList().get(0);
                c.sendMessageBack(m, 3);
                m.setReconsumeTimes(0);
                c.sendMessageBack(m, -1);
            }
        } finally {
            c.shutdown();
        }
    }

    private void litePull() throws Exception {
        var c = new DefaultLitePullConsumer("rec_lite_" + label);
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.subscribe(topic, "*");
        c.start();
        try {
            int n = 0;
            for (int i = 0; i < 10 && n < 5; i++) {
                n += c.poll(1000).size();
            }
            c.commitSync();
        } finally {
            c.shutdown();
        }
    }

    private void push(org.apache.rocketmq.tools.admin.DefaultMQAdminExt admin) throws Exception {
        var seen = new AtomicInteger();
        var failOnce = new AtomicInteger();
        MessageListenerConcurrently listener = (msgs, ctx) -> {
            seen.addAndGet(msgs.size());
            if (failOnce.getAndIncrement() == 0) {
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        };
        var clients = new ArrayList<org.apache.rocketmq.client.consumer.DefaultMQPushConsumer>();
        for (int i = 0; i < 2; i++) {
            var c = k.consumer("rec_push_" + label);
            c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            c.subscribe(topic, "TagA || TagB");
            c.setMessageListener(listener);
            c.start();
            clients.add(c);
            Thread.sleep(1500);
        }
        Kit.await(10_000, () -> seen.get() >= 5);
        step("consumer connections", () -> admin.examineConsumerConnectionInfo("rec_push_" + label));
        step("producer connections", () -> admin.examineProducerConnectionInfo("rec_prod_" + label, topic));
        step("running info", () -> {
            for (var conn : admin.examineConsumerConnectionInfo("rec_push_" + label).getConnectionSet()) {
                admin.getConsumerRunningInfo("rec_push_" + label, conn.getClientId(), false);
                break;
            }
        });
        step("live reset", () -> admin.resetOffsetByTimestamp(topic, "rec_push_" + label, System.currentTimeMillis(), true));
        for (var c : clients) {
            c.shutdown();
        }
    }

    private void orderly() throws Exception {
        var seen = new AtomicInteger();
        var c = k.consumer("rec_orderly_" + label);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.subscribe(topic, "*");
        c.setMessageListener((MessageListenerOrderly) (msgs, ctx) -> {
            seen.addAndGet(msgs.size());
            return ConsumeOrderlyStatus.SUCCESS;
        });
        c.start();
        Kit.await(10_000, () -> seen.get() >= 5);
        c.shutdown();
    }

    private void transactions() throws Exception {
        var p = new TransactionMQProducer("rec_txn_" + label);
        var checked = new CountDownLatch(1);
        p.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return (LocalTransactionState) arg;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                checked.countDown();
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        k.start(p);
        p.sendMessageInTransaction(message(topic, "TagT", "t1", "commit"), LocalTransactionState.COMMIT_MESSAGE);
        p.sendMessageInTransaction(message(topic, "TagT", "t2", "rollback"), LocalTransactionState.ROLLBACK_MESSAGE);
        p.sendMessageInTransaction(message(topic, "TagT", "t3", "unknown"), LocalTransactionState.UNKNOW);
        System.out.println("checked " + checked.await(25, TimeUnit.SECONDS));
        Thread.sleep(300);
    }

    private void request() throws Exception {
        String t = topic + "_rpc";
        k.admin().createAndUpdateTopicConfig(k.broker(), new TopicConfig(t, 1, 1, 6));
        Thread.sleep(500);
        var replier = k.producer("rec_replier_" + label);
        var c = k.consumer("rec_rpc_" + label);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.subscribe(t, "*");
        c.setMessageListener((MessageListenerConcurrently) (msgs, ctx) -> {
            for (MessageExt m : msgs) {
                try {
                    replier.send(MessageUtil.createReplyMessage(m, Kit.bytes("reply")), 3000);
                } catch (Exception e) {
                    System.out.println("reply: " + e);
                }
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        Thread.sleep(1000);
        var asker = k.producer("rec_asker_" + label);
        Kit.remoting(asker);
        asker.send(message(t, "", "", "warm up without a reply address"));
        Thread.sleep(500);
        asker.getDefaultMQProducerImpl().getMqClientFactory().sendHeartbeatToAllBrokerWithLock();
        var answer = asker.request(message(t, "", "", "question"), 5000);
        System.out.println("answer " + new String(answer.getBody()));
        c.shutdown();
    }
}
