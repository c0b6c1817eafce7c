package compat;

import java.util.List;
import java.util.Map;

/** Writes plain values as JSON: maps, lists, strings, numbers, booleans; Raw is copied as it is. */
final class Json {
    record Raw(String text) {}

    private Json() {}

    static String write(Object v) {
        var b = new StringBuilder();
        append(b, v);
        return b.toString();
    }

    private static void append(StringBuilder b, Object v) {
        if (v instanceof Map<?, ?> m) {
            b.append('{');
            String sep = "";
            for (var e : m.entrySet()) {
                b.append(sep);
                quote(b, String.valueOf(e.getKey()));
                b.append(':');
                append(b, e.getValue());
                sep = ",";
            }
            b.append('}');
        } else if (v instanceof List<?> l) {
            b.append('[');
            String sep = "";
            for (Object o : l) {
                b.append(sep);
                append(b, o);
                sep = l.size() > 0 && o instanceof Map ? ",\n" : ",";
            }
            b.append(']');
        } else if (v instanceof String s) {
            quote(b, s);
        } else if (v instanceof Raw r) {
            b.append(r.text());
        } else {
            b.append(v);
        }
    }

    private static void quote(StringBuilder b, String s) {
        b.append('"');
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') {
                b.append('\\').append(c);
            } else if (c < 32) {
                b.append(String.format("\\u%04x", (int) c));
            } else {
                b.append(c);
            }
        }
        b.append('"');
    }
}
