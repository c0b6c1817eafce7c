package compat;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.time.Instant;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * A member of an orderly group, until it is killed. Arguments: name server, topic, group, name. It prints "B QUEUE OFFSET
 * NANOSECONDS" as it begins with a message and "E ..." as it has ended, see the package test/ordered.
 */
public final class Member {
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true);

    private Member() {}

    public static void main(String[] args) throws Exception {
        var c = new DefaultMQPushConsumer(args[2]);
        c.setNamesrvAddr(args[0]);
        c.setInstanceName(args[3]);
        c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        c.setPersistConsumerOffsetInterval(1000);
        c.subscribe(args[1], "*");
        c.setMessageListener((MessageListenerOrderly) (msgs, ctx) -> {
            for (var m : msgs) {
                say("B", m);
                try {
                    Thread.sleep(15);
                } catch (InterruptedException e) {
                    return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                }
                say("E", m);
            }
            return ConsumeOrderlyStatus.SUCCESS;
        });
        c.start();
        Thread.sleep(Long.MAX_VALUE);
    }

    private static void say(String what, MessageExt m) {
        var now = Instant.now();
        OUT.println(what + " " + m.getQueueId() + " " + m.getQueueOffset() + " " + (now.getEpochSecond() * 1_000_000_000L + now.getNano()));
    }
}
