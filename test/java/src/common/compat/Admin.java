package compat;

import static compat.Kit.message;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageQueue;

/** Apache's admin client and its mqadmin commands. */
final class Admin {
    private Admin() {}

    static void api(Kit k) throws Exception {
        var a = k.admin();
        String broker = k.broker();
        String topic = k.createTopic("admin", 3);
        String group = k.group("admin");
        k.createGroup(group, 7);
        var p = k.producer(k.group("adminprod"));
        for (int i = 0; i < 9; i++) {
            p.send(message(topic, "T", "k", "a" + i));
        }
        var route = a.examineTopicRouteInfo(topic);
        k.equal(route.getQueueDatas().get(0).getReadQueueNums() + " " + route.getQueueDatas().get(0).getWriteQueueNums() + " " + route.getQueueDatas().get(0).getPerm(), "3 3 6", "the route of the topic");
        k.check(a.fetchAllTopicList().getTopicList().contains(topic), "the list of topics");
        k.check(a.fetchTopicsByCLuster(k.cluster()).getTopicList().contains(topic), "the list of a cluster's topics");
        k.check(a.examineTopicConfig(broker, topic).getReadQueueNums() == 3, "the topic's settings");
        k.equal(a.examineSubscriptionGroupConfig(broker, group).getRetryMaxTimes(), 7, "the group's settings");
        k.check(a.getAllTopicConfig(broker, 5000).getTopicConfigTable().containsKey(topic), "all topics' settings");
        k.check(a.getAllSubscriptionGroup(broker, 5000).getSubscriptionGroupTable().containsKey(group), "all groups' settings");
        k.equal(a.examineTopicStats(topic).getOffsetTable().values().stream().mapToLong(o -> o.getMaxOffset()).sum(), 9L, "the topic's offsets");
        k.check(a.fetchBrokerRuntimeStats(broker).getTable().containsKey("brokerVersionDesc"), "the broker's runtime figures");
        k.check(a.getBrokerConfig(broker).containsKey("brokerName"), "the broker's settings");
        var c = new DefaultMQPullConsumer(group);
        c.setNamesrvAddr(k.namesrv);
        c.setInstanceName(k.instance());
        k.onClose(c::shutdown);
        c.start();
        var q = new MessageQueue(topic, k.brokerName(), 1);
        c.updateConsumeOffset(q, 2);
        c.getOffsetStore().persist(q);
        boolean told = Kit.await(5000, () -> {
            try {
                return a.queryTopicConsumeByWho(topic).getGroupList().contains(group);
            } catch (Exception e) {
                return false;
            }
        });
        k.check(told, "who consumes the topic");
        k.equal(p.maxOffset(q) + " " + p.minOffset(q), "3 0", "a queue's ends");
        a.createAndUpdateTopicConfig(broker, new TopicConfig(topic, 5, 5, 4));
        k.awaitEqual(5000, () -> {
            try {
                var d = a.examineTopicRouteInfo(topic).getQueueDatas().get(0);
                return d.getReadQueueNums() + " " + d.getPerm();
            } catch (Exception e) {
                return e;
            }
        }, "5 4", "a change of the topic reaches the route");
        a.createAndUpdateKvConfig("NS" + k.suffix, "key", "value");
        k.equal(a.getKVConfig("NS" + k.suffix, "key"), "value", "a KV pair");
        k.equal(a.getKVListByNamespace("NS" + k.suffix).getTable().size(), 1, "a KV namespace");
        a.deleteKvConfig("NS" + k.suffix, "key");
        k.refused("22", "a KV pair that is gone", () -> a.getKVConfig("NS" + k.suffix, "key"));
        k.refused("17", "the route of an unknown topic", () -> a.examineTopicRouteInfo(k.topic("unknown")));
        k.refused("", "the connections of a group that is not there", () -> a.examineConsumerConnectionInfo(k.group("nobody")));
        // A 4.9 producer sends its first heartbeat a second after its start; Apache's broker does not know it before that either.
        k.awaitEqual(5000, () -> {
            try {
                return a.examineProducerConnectionInfo(k.group("adminprod"), topic).getConnectionSet().size();
            } catch (Exception e) {
                return e;
            }
        }, 1, "the producer's connection");
        a.deleteSubscriptionGroup(broker, group);
        a.deleteTopicInBroker(Set.of(broker), topic);
        String cluster = k.cluster();
        boolean gone = Kit.await(10_000, () -> {
            try {
                // A registration of the broker that was under way can bring the route back once.
                Version.deleteInNamesrv(a, Set.of(k.namesrv.split(";")), cluster, topic);
                a.examineTopicRouteInfo(topic);
                return false;
            } catch (Exception e) {
                return String.valueOf(e).contains("17");
            }
        });
        k.check(gone, "a deleted topic has no route");
    }

    /** The commands as a person runs them, each in a process of its own. */
    static void commands(Kit k) throws Exception {
        String topic = k.topic("cmd");
        String group = k.group("cmd");
        String broker = k.broker();
        run(k, "success", "updateTopic", "-b", broker, "-t", topic, "-r", "2", "-w", "2");
        run(k, "success", "updateSubGroup", "-b", broker, "-g", group);
        var p = k.producer(k.group("cmdprod"));
        Kit.await(5000, () -> {
            try {
                return p.fetchPublishMessageQueues(topic).size() == 2;
            } catch (Exception e) {
                return false;
            }
        });
        var r = p.send(message(topic, "T", "cmdkey", "for mqadmin"));
        var in = k.reader(group, topic, "*");
        k.awaitEqual(15_000, in::size, 1, "consumed");
        Thread.sleep(6000); // offsets are committed every 5 s
        run(k, topic, "topicList");
        run(k, "readQueueNums", "topicRoute", "-t", topic);
        run(k, k.brokerName(), "topicStatus", "-t", topic);
        if (Version.MAJOR >= 5) {
            run(k, k.brokerName(), "clusterList");
        } else {
            // Apache 5 tells getTransferredTps where the 4.9 command reads getTransferedTps and fails.
            run(k, k.brokerName(), "clusterList", "-m");
        }
        run(k, "putTps", "brokerStatus", "-b", broker);
        run(k, topic, "consumerProgress", "-g", group);
        run(k, "SubscriptionTable|Connection|" + group, "consumerConnection", "-g", group);
        if (Version.MAJOR >= 5) {
            run(k, r.getMsgId(), "queryMsgById", "-i", r.getOffsetMsgId(), "-t", topic);
        } else {
            run(k, r.getMsgId(), "queryMsgById", "-i", r.getOffsetMsgId());
        }
        run(k, "CONSUMED|cmdkey", "queryMsgByUniqueKey", "-i", r.getMsgId(), "-t", topic);
        run(k, r.getMsgId(), "queryMsgByKey", "-k", "cmdkey", "-t", topic);
        run(k, "for mqadmin", "printMsg", "-t", topic, "-d", "true");
        run(k, "success|brokerName", "resetOffsetByTime", "-g", group, "-t", topic, "-s", "0");
        run(k, "deleted|success", "deleteTopic", "-c", k.cluster(), "-t", topic);
    }

    private static void run(Kit k, String wanted, String... command) throws Exception {
        Path home = Files.createTempDirectory("mqadmin");
        Files.createDirectories(home.resolve("conf"));
        Files.writeString(home.resolve("conf/logback_tools.xml"), "<configuration/>");
        var args = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-Duser.home=" + home, "-Drocketmq.home.dir=" + home,
            "-Drocketmq.client.logRoot=" + home, "-cp", System.getProperty("java.class.path"), "org.apache.rocketmq.tools.command.MQAdminStartup"));
        args.addAll(List.of(command));
        args.addAll(List.of("-n", k.namesrv));
        File out = home.resolve("out").toFile();
        var process = new ProcessBuilder(args).redirectErrorStream(true).redirectOutput(out).start();
        if (!process.waitFor(40, TimeUnit.SECONDS)) {
            process.destroyForcibly();
        }
        String text = Files.readString(out.toPath());
        boolean found = false;
        for (String w : wanted.split("\\|")) {
            found |= text.contains(w);
        }
        boolean trouble = text.contains("Exception");
        k.check(found && !trouble, "mqadmin " + String.join(" ", command) + (found && !trouble ? "" : ": wanted " + wanted + " in\n" + text));
        delete(home);
    }

    private static void delete(Path dir) throws Exception {
        try (var all = Files.walk(dir)) {
            for (Path f : all.sorted(java.util.Comparator.reverseOrder()).toList()) {
                Files.delete(f);
            }
        }
    }
}
