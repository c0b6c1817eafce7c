package compat;

import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.common.protocol.heartbeat.MessageModel;
import org.apache.rocketmq.common.subscription.SubscriptionGroupConfig;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** What is spelled differently in the 4.9 client. */
final class Version {
    static final int MAJOR = 4;

    private Version() {}

    static void broadcasting(DefaultMQPushConsumer c) {
        c.setMessageModel(MessageModel.BROADCASTING);
    }

    static void broadcasting(DefaultLitePullConsumer c) {
        c.setMessageModel(MessageModel.BROADCASTING);
    }

    /** The two majors take the last two arguments in different orders. */
    static void deleteInNamesrv(DefaultMQAdminExt admin, Set<String> addrs, String cluster, String topic) throws Exception {
        admin.deleteTopicInNameServer(addrs, topic, cluster);
    }

    static void createGroup(DefaultMQAdminExt admin, String addr, String group, int retryMax) throws Exception {
        var config = new SubscriptionGroupConfig();
        config.setGroupName(group);
        config.setRetryMaxTimes(retryMax);
        admin.createAndUpdateSubscriptionGroupConfig(addr, config);
    }

    static boolean scenario(String name, Kit k) {
        return false;
    }

    static void fillExtra(Store s) {}

    static void trafficExtra(Traffic t) {}
}
