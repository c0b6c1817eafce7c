import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.parser.SelectorParser;

/**
 * Asks Apache's filter classes for their verdicts. Lines come in: "new" forgets the property sets, "set" with names and
 * values adds one, "ask" with an expression is answered by a line: "!" if it does not compile, otherwise one letter per
 * set, T, F, N for null and X for an exception. Names, values and expressions are base64.
 */
public final class Verdicts {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        BufferedWriter out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.US_ASCII));
        List<Map<String, String>> sets = new ArrayList<>();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("new")) {
                sets.clear();
            } else if (words[0].equals("set")) {
                Map<String, String> set = new HashMap<>();
                for (int i = 1; i + 1 < words.length; i += 2) {
                    set.put(decode(words[i]), decode(words[i + 1]));
                }
                sets.add(set);
            } else {
                out.write(ask(words.length > 1 ? decode(words[1]) : "", sets));
                out.newLine();
            }
        }
        out.flush();
    }

    private static String ask(String text, List<Map<String, String>> sets) {
        Expression compiled;
        try {
            compiled = SelectorParser.parse(text);
        } catch (Throwable t) {
            return "!";
        }
        StringBuilder all = new StringBuilder();
        for (Map<String, String> set : sets) {
            all.append(verdict(compiled, set));
        }
        return all.toString();
    }

    private static char verdict(Expression compiled, final Map<String, String> set) {
        try {
            Object is = compiled.evaluate(new EvaluationContext() {
                @Override
                public Object get(String name) {
                    return set.get(name);
                }

                @Override
                public Map<String, Object> keyValues() {
                    return new HashMap<>(set);
                }
            });
            return is == null ? 'N' : Boolean.TRUE.equals(is) ? 'T' : 'F';
        } catch (Throwable t) {
            return 'X';
        }
    }

    private static String decode(String word) {
        return new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
    }
}
