package compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyContext;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** What every scenario needs: names of its own, started clients that are shut down at its end, checks with a clear line. */
final class Kit implements AutoCloseable {
    /**
     * Waits for what must come are this many times longer than they should be. A busy machine is slow, and a 5.x consumer may lose
     * the heartbeat after its first rebalance to a race of its own ("lock heartBeat, but failed"): then the broker, Apache's too,
     * answers its pulls with "subscription not latest" until the next heartbeat 30 s later.
     */
    private static final int PATIENCE = Integer.getInteger("patience", 5);

    final String namesrv;
    final String suffix;
    private final List<Runnable> closers = new ArrayList<>();
    private DefaultMQAdminExt admin;
    private final StringBuffer lines = new StringBuffer();
    private final AtomicInteger failed = new AtomicInteger();
    private int instances;

    Kit(String namesrv) {
        this.namesrv = namesrv;
        this.suffix = Long.toString(ThreadLocalRandom.current().nextLong() & Long.MAX_VALUE, 36);
    }

    String topic(String name) {
        return "java_" + name + "_" + suffix;
    }

    String group(String name) {
        return "g_" + name + "_" + suffix;
    }

    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    static String text(MessageExt m) {
        return new String(m.getBody(), StandardCharsets.UTF_8);
    }

    static Message message(String topic, String tag, String key, String body) {
        return new Message(topic, tag, key, bytes(body));
    }

    void check(boolean ok, String what) {
        lines.append(ok ? "ok    " : "FAIL  ").append(what).append('\n');
        if (!ok) {
            failed.incrementAndGet();
        }
    }

    void equal(Object got, Object want, String what) {
        boolean ok = got == null ? want == null : got.equals(want);
        check(ok, ok ? what : what + ": got " + got + ", want " + want);
    }

    int failures() {
        return failed.get();
    }

    /** What the checks and notes said. */
    String lines() {
        return lines.toString();
    }

    void note(String what) {
        lines.append("note  ").append(what).append('\n');
    }

    /** Waits until cond holds, at most PATIENCE times ms; answers whether it did. */
    static boolean await(long ms, BooleanSupplier cond) throws InterruptedException {
        long end = System.nanoTime() + PATIENCE * ms * 1_000_000L;
        while (!cond.getAsBoolean()) {
            if (System.nanoTime() > end) {
                return cond.getAsBoolean();
            }
            Thread.sleep(20);
        }
        return true;
    }

    void awaitEqual(long ms, Supplier<?> got, Object want, String what) throws InterruptedException {
        await(ms, () -> want.equals(got.get()));
        equal(got.get(), want, what);
    }

    /** Runs call and wants it to fail with a message that contains part. */
    void refused(String part, String what, Callable<?> call) {
        try {
            Object got = call.call();
            check(false, what + ": not refused, got " + got);
        } catch (Exception e) {
            String all = String.valueOf(e) + " " + e.getCause();
            check(all.contains(part), what + " (" + firstLine(all) + ")");
        }
    }

    static String firstLine(String s) {
        int n = s.indexOf('\n');
        return n < 0 ? s : s.substring(0, n);
    }

    void onClose(Runnable r) {
        closers.add(r);
    }

    String instance() {
        return suffix + "-" + instances++;
    }

    DefaultMQAdminExt admin() throws Exception {
        if (admin == null) {
            admin = new DefaultMQAdminExt(30_000L);
            admin.setNamesrvAddr(namesrv);
            admin.setInstanceName("admin-" + instance());
            admin.start();
            onClose(admin::shutdown);
        }
        return admin;
    }

    /** The address of the first master. */
    String broker() throws Exception {
        admin();
        await(20_000, () -> {
            try {
                return !admin.examineBrokerClusterInfo().getBrokerAddrTable().isEmpty();
            } catch (Exception e) {
                return false;
            }
        });
        var info = admin.examineBrokerClusterInfo();
        return info.getBrokerAddrTable().values().iterator().next().selectBrokerAddr();
    }

    String brokerName() throws Exception {
        return admin().examineBrokerClusterInfo().getBrokerAddrTable().keySet().iterator().next();
    }

    String cluster() throws Exception {
        return admin().examineBrokerClusterInfo().getClusterAddrTable().keySet().iterator().next();
    }

    String createTopic(String name, int queues) throws Exception {
        String topic = topic(name);
        admin().createAndUpdateTopicConfig(broker(), new TopicConfig(topic, queues, queues, 6));
        boolean routed = await(10_000, () -> {
            try {
                return admin.examineTopicRouteInfo(topic).getQueueDatas().size() > 0;
            } catch (Exception e) {
                return false;
            }
        });
        if (!routed) {
            check(false, "the name server routes the new topic " + topic);
        }
        return topic;
    }

    void createGroup(String group, int retryMax) throws Exception {
        Version.createGroup(admin(), broker(), group, retryMax);
    }

    DefaultMQProducer producer(String group) throws Exception {
        return start(new DefaultMQProducer(group));
    }

    <P extends DefaultMQProducer> P start(P p) throws Exception {
        p.setNamesrvAddr(namesrv);
        p.setInstanceName("p-" + instance());
        p.setSendMsgTimeout(10_000);
        p.setMqClientApiTimeout(10_000);
        p.start();
        onClose(p::shutdown);
        return p;
    }

    /** A consumer that is not started; it is shut down at the end of the scenario. */
    DefaultMQPushConsumer consumer(String group) {
        var c = new DefaultMQPushConsumer(group);
        c.setNamesrvAddr(namesrv);
        c.setInstanceName("c-" + instance());
        onClose(c::shutdown);
        return c;
    }

    /** How many queues of the topic the consumer holds. */
    static long held(DefaultMQPushConsumer c, String topic) {
        return c.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
            .filter(q -> q.getTopic().equals(topic)).count();
    }

    static RemotingClient remoting(DefaultMQProducer p) {
        return p.getDefaultMQProducerImpl().getMqClientFactory().getMQClientAPIImpl().getRemotingClient();
    }

    /** Collects what a consumer is given, in order. */
    static final class Inbox implements MessageListenerConcurrently {
        final List<MessageExt> all = Collections.synchronizedList(new ArrayList<>());

        @Override
        public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> msgs, ConsumeConcurrentlyContext ctx) {
            all.addAll(msgs);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }

        int size() {
            return all.size();
        }

        List<MessageExt> copy() {
            synchronized (all) {
                return new ArrayList<>(all);
            }
        }

        Set<String> bodies() {
            return copy().stream().map(Kit::text).collect(Collectors.toCollection(TreeSet::new));
        }
    }

    /** A started consumer that reads the topic from its first message into a new inbox. */
    Inbox reader(String group, String topic, String tags) throws Exception {
        var in = new Inbox();
        var c = consumer(group);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.subscribe(topic, tags);
        c.setMessageListener(in);
        c.start();
        return in;
    }

    @Override
    public void close() {
        for (int i = closers.size() - 1; i >= 0; i--) {
            try {
                closers.get(i).run();
            } catch (RuntimeException e) {
                note("shutdown: " + e);
            }
        }
    }
}
