// The oracle for interceptors: what those of Apache Flume 1.11 make of events. Run by run.sh, which see.
//
//   java Interceptors.java FILE    writes the answers into the file
//
// A line that does not begin with a blank begins a case. Behind it, each indented: "key = value", the keys of the
// interceptor, type among them; "> headers | body", an event; "< headers | body", what becomes of it, or "< dropped",
// "< fails"; "< refused" behind the keys, if Flume does not take them. Headers are name=value, separated by commas. \n
// \r \t \\ and \\uXXXX are as in Java. Answers are written anew; all other lines, such as "!", stay as they are.
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flume.Context;
import org.apache.flume.Event;
import org.apache.flume.event.EventBuilder;
import org.apache.flume.interceptor.Interceptor;
import org.apache.flume.interceptor.InterceptorBuilderFactory;

public class Interceptors {
  static Interceptor interceptor;
  static Map<String, String> keys = new TreeMap<>();

  public static void main(String[] args) throws Exception {
    List<String> out = new ArrayList<>();
    boolean open = true;
    List<String> lines = Files.readAllLines(Path.of(args[0]));
    lines.add("");
    for (String line : lines) {
      String text = line.trim();
      if (text.startsWith("<")) continue;
      boolean event = text.startsWith(">") && line.startsWith(" ");
      boolean key = line.startsWith(" ") && !event && !text.startsWith("!");
      if (!open && !key) {
        open = true;
        if (!build()) out.add("  < refused");
      }
      out.add(line);
      if (event && interceptor != null) out.add("  < " + answer(text.substring(1).trim()));
      if (key) {
        if (open) keys.clear();
        open = false;
        String[] kv = text.split(" = ", 2);
        keys.put(kv[0], kv.length > 1 ? unescape(kv[1]) : "");
      }
    }
    out.remove(out.size() - 1);
    Files.write(Path.of(args[0]), out);
  }

  static boolean build() {
    interceptor = null;
    try {
      Interceptor.Builder builder = InterceptorBuilderFactory.newInstance(keys.get("type"));
      builder.configure(new Context(keys));
      interceptor = builder.build();
      interceptor.initialize();
      return true;
    } catch (Throwable t) {
      return false;
    }
  }

  static String answer(String text) {
    String[] parts = (" " + text + " ").split("\\|", 2);
    Map<String, String> headers = new TreeMap<>();
    for (String h : parts[0].trim().split(",")) {
      if (!h.isEmpty()) headers.put(h.split("=", 2)[0], h.split("=", 2)[1]);
    }
    String body = parts[1].length() < 2 ? "" : parts[1].substring(1, parts[1].length() - 1);
    try {
      Event e = interceptor.intercept(EventBuilder.withBody(unescape(body).getBytes(StandardCharsets.UTF_8), headers));
      if (e == null) return "dropped";
      StringBuilder b = new StringBuilder();
      for (Map.Entry<String, String> h : new TreeMap<>(e.getHeaders()).entrySet()) {
        if (h.getValue() != null) b.append(b.length() == 0 ? "" : ",").append(h.getKey()).append('=').append(escape(h.getValue()));
      }
      return (b + " | " + escape(new String(e.getBody(), StandardCharsets.UTF_8))).stripTrailing();
    } catch (Throwable t) {
      return "fails";
    }
  }

  static String unescape(String s) {
    StringBuilder b = new StringBuilder();
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      if (c != '\\') {
        b.append(c);
        continue;
      }
      c = s.charAt(++i);
      if (c == 'u') {
        b.append((char) Integer.parseInt(s.substring(i + 1, i + 5), 16));
        i += 4;
      } else {
        b.append(c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c);
      }
    }
    return b.toString();
  }

  static String escape(String s) {
    StringBuilder b = new StringBuilder();
    for (char c : s.toCharArray()) {
      if (c == '\\') b.append("\\\\");
      else if (c == '\n') b.append("\\n");
      else if (c == '\r') b.append("\\r");
      else if (c == '\t') b.append("\\t");
      else if (c < ' ' || c > '~') b.append(String.format("\\u%04x", (int) c));
      else b.append(c);
    }
    return b.toString();
  }
}
