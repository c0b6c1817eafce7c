package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs scenarios against a server. Arguments: name server, scenarios separated by commas; -Dparallel=N runs N at a time.
 * Every scenario ends with a line "PASS name" or "FAIL name" after the lines of its checks; the exit code is 1 if one failed.
 */
public final class Main {
    /** Seconds for a scenario; one starts a dozen processes. */
    private static int limit(String name) {
        return name.equals("mqadmin") ? 400 : 150;
    }

    public static void main(String[] args) throws Exception {
        var pool = Executors.newFixedThreadPool(Integer.getInteger("parallel", 4));
        var running = new ArrayList<Future<Boolean>>();
        for (String name : args[1].split(",")) {
            running.add(pool.submit(() -> run(args[0], name)));
        }
        boolean good = true;
        for (var f : running) {
            good &= f.get();
        }
        System.exit(good ? 0 : 1);
    }

    private static boolean run(String namesrv, String name) throws InterruptedException {
        var k = new Kit(namesrv);
        var pool = Executors.newSingleThreadExecutor(r -> {
            var t = new Thread(r, "scenario-" + name);
            t.setDaemon(true);
            return t;
        });
        long start = System.nanoTime();
        var task = pool.submit(() -> {
            try (k) {
                Scenarios.run(name, k);
            }
            return null;
        });
        String trouble = null;
        try {
            task.get(limit(name), TimeUnit.SECONDS);
        } catch (ExecutionException e) {
            trouble = trace(e.getCause());
        } catch (TimeoutException e) {
            var lines = new StringBuilder("not done within " + limit(name) + " s; it stands at\n");
            Thread.getAllStackTraces().forEach((t, frames) -> {
                if (t.getName().equals("scenario-" + name)) {
                    for (var f : frames) {
                        lines.append("    ").append(f).append('\n');
                    }
                }
            });
            trouble = lines.toString();
        }
        pool.shutdownNow();
        boolean good = trouble == null && k.failures() == 0;
        synchronized (System.out) {
            System.out.print(k.lines());
            if (trouble != null) {
                System.out.println("FAIL  " + trouble);
            }
            System.out.printf("%s %s %d ms%n", good ? "PASS" : "FAIL", name, (System.nanoTime() - start) / 1_000_000);
        }
        return good;
    }

    private static String trace(Throwable e) {
        var b = new StringBuilder(String.valueOf(e));
        for (var f : e.getStackTrace()) {
            if (f.getClassName().startsWith("compat")) {
                b.append("\n    at ").append(f);
            }
        }
        if (e.getCause() != null) {
            b.append("\n    cause: ").append(e.getCause());
        }
        return b.toString();
    }
}
