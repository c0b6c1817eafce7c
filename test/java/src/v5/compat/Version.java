package compat;

import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;
import org.apache.rocketmq.remoting.protocol.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageRequestMode;

/** What is spelled differently in the 5.x client, and what only it can do. */
final class Version {
    static final int MAJOR = 5;

    private Version() {}

    static void broadcasting(DefaultMQPushConsumer c) {
        c.setMessageModel(MessageModel.BROADCASTING);
    }

    static void broadcasting(DefaultLitePullConsumer c) {
        c.setMessageModel(MessageModel.BROADCASTING);
    }

    /** The two majors take the last two arguments in different orders. */
    static void deleteInNamesrv(DefaultMQAdminExt admin, Set<String> addrs, String cluster, String topic) throws Exception {
        admin.deleteTopicInNameServer(addrs, cluster, topic);
    }

    static void createGroup(DefaultMQAdminExt admin, String addr, String group, int retryMax) throws Exception {
        var config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        config.setRetryMaxTimes(retryMax);
        admin.createAndUpdateSubscriptionGroupConfig(addr, config);
    }

    static boolean scenario(String name, Kit k) throws Exception {
        return Scenarios5.run(name, k);
    }

    static void fillExtra(Store s) throws Exception {
        for (int i = 0; i < 6; i++) {
            Message m = Kit.message("timed", "TagT", "timer" + i, "timer " + i);
            m.setDelayTimeMs((i % 2 == 0 ? 3_600_000L : 86_400_000L) + i * 1500L);
            s.producer.send(m);
        }
        Message m = Kit.message("timed", "TagT", "timer-at", "timer at an instant");
        m.setDeliverTimeMs(System.currentTimeMillis() + 2 * 86_400_000L + 4_000_123L);
        s.producer.send(m);
    }

    static void trafficExtra(Traffic t) {
        var k = t.k;
        t.step("timer and recall", () -> {
            var p = k.producer("rec_timer_" + t.label);
            Message m = Kit.message(t.topic, "TagA", "tm", "timed");
            m.setDelayTimeMs(20_000);
            var r = p.send(m);
            p.recallMessage(t.topic, r.getRecallHandle());
        });
        t.step("pop", () -> {
            String group = "rec_pop_" + t.label;
            createGroup(k.admin(), k.broker(), group, 3);
            k.admin().setMessageRequestMode(k.broker(), t.topic, group, MessageRequestMode.POP, 8, 5000);
            var seen = new AtomicInteger();
            var c = k.consumer(group);
            c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            c.setClientRebalance(false);
            c.subscribe(t.topic, "*");
            c.setMessageListener((MessageListenerConcurrently) (msgs, ctx) ->
                seen.getAndIncrement() == 0 ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
            c.start();
            Kit.await(8_000, () -> seen.get() >= 5);
            System.out.println("popped " + seen.get());
            c.shutdown();
        });
    }
}
