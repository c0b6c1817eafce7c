package compat;

/** Finds a scenario by its name. */
final class Scenarios {
    private Scenarios() {}

    static void run(String name, Kit k) throws Exception {
        switch (name) {
            case "sync" -> Sending.sync(k);
            case "async" -> Sending.async(k);
            case "oneway" -> Sending.oneway(k);
            case "batch" -> Sending.batch(k);
            case "large" -> Sending.large(k);
            case "compressed" -> Sending.compressed(k);
            case "keys" -> Sending.keys(k);
            case "view" -> Sending.view(k);
            case "trace" -> Sending.trace(k);
            case "refused" -> Sending.refused(k);
            case "push" -> Consuming.push(k);
            case "tags" -> Consuming.tags(k);
            case "orderly" -> Consuming.orderly(k);
            case "broadcast" -> Consuming.broadcast(k);
            case "rebalance" -> Consuming.rebalance(k);
            case "resume" -> Consuming.resume(k);
            case "from-where" -> Consuming.fromWhere(k);
            case "latency" -> Consuming.latency(k);
            case "lite-subscribe" -> Pulling.liteSubscribe(k);
            case "lite-assign" -> Pulling.liteAssign(k);
            case "pull" -> Pulling.pull(k);
            case "txn" -> Later.transactions(k);
            case "txn-check" -> Later.transactionCheck(k);
            case "delay" -> Later.delay(k);
            case "retry" -> Later.retry(k);
            case "dlq" -> Later.dlq(k);
            case "sql" -> Later.sql(k);
            case "request" -> Later.request(k);
            case "reset" -> Later.reset(k);
            case "admin" -> Admin.api(k);
            case "mqadmin" -> Admin.commands(k);
            default -> {
                if (!Version.scenario(name, k)) {
                    throw new IllegalArgumentException("no scenario " + name + " in client version " + Version.MAJOR);
                }
            }
        }
    }
}
