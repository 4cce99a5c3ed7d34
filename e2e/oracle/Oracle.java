// The configuration oracle: what Apache Flume 1.11's own classes make of a configuration, and what java.util.Properties
// makes of a text. Nothing is ever started. Run by run.sh, which see.
//
//   Oracle conf FILE.conf...              writes FILE.verdict beside each file; the agent is named by a line "# agent: NAME"
//   Oracle conf -a NAME FILE              prints one verdict
//   Oracle properties DIR OUT.jsonl       every text of DIR, and generated ones, with their properties
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.io.ByteArrayInputStream;
import java.io.StringReader;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.BlockingDeque;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flume.Channel;
import org.apache.flume.Context;
import org.apache.flume.Sink;
import org.apache.flume.SinkProcessor;
import org.apache.flume.SinkRunner;
import org.apache.flume.Source;
import org.apache.flume.SourceRunner;
import org.apache.flume.conf.BatchSizeSupported;
import org.apache.flume.conf.FlumeConfiguration;
import org.apache.flume.conf.FlumeConfigurationError;
import org.apache.flume.conf.TransactionCapacitySupported;
import org.apache.flume.node.MaterializedConfiguration;
import org.apache.flume.node.PropertiesFileConfigurationProvider;
import org.apache.flume.sink.DefaultSinkProcessor;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.LoggerContext;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.Configuration;
import org.apache.logging.log4j.core.config.LoggerConfig;
import org.apache.logging.log4j.core.config.Property;

@SuppressWarnings("deprecation") // Flume deprecates its own error records
public class Oracle {
  public static void main(String[] args) throws Exception {
    if (args.length == 4 && args[0].equals("conf") && args[1].equals("-a")) {
      captureLog();
      System.out.print(verdict(Path.of(args[3]), args[2]));
    } else if (args.length >= 2 && args[0].equals("conf")) {
      captureLog();
      for (String a : Arrays.asList(args).subList(1, args.length)) {
        Path f = Path.of(a);
        String name = f.getFileName().toString().replaceFirst("\\.conf$", ".verdict");
        Files.writeString(f.resolveSibling(name), verdict(f, agentOf(f)));
      }
    } else if (args.length == 3 && args[0].equals("properties")) {
      properties(Path.of(args[1]), Path.of(args[2]));
    } else {
      System.err.println("usage: Oracle conf [-a AGENT] FILE... | properties DIR OUT");
      System.exit(2);
    }
    System.exit(0); // whatever threads a configured component may have left
  }

  static String agentOf(Path f) throws IOException {
    Matcher m = Pattern.compile("(?m)^# agent: (\\S+)\\s*$").matcher(new String(Files.readAllBytes(f), StandardCharsets.UTF_8)); // a text may be anything
    if (!m.find()) throw new IOException(f + ": no line '# agent: NAME'");
    return m.group(1);
  }

  // ---- configurations ------------------------------------------------------------------------------------------------

  static String verdict(Path f, String agent) throws Exception {
    Map<String, Object> v = new LinkedHashMap<>();
    v.put("agent", agent);
    v.put("parse", parse(f, agent));
    v.put("load", load(f, agent));
    return json(v, "") + "\n";
  }

  // What FlumeConfiguration records and keeps.
  static Object parse(Path f, String agent) throws Exception {
    Map<String, Object> out = new LinkedHashMap<>();
    SEEN.clear();
    try {
      FlumeConfiguration c = new PropertiesFileConfigurationProvider(agent, f.toFile()).getFlumeConfiguration();
      List<String> errors = new ArrayList<>();
      List<Object> records = new ArrayList<>();
      Map<String, Object> byText = new TreeMap<>();
      for (FlumeConfigurationError e : c.getConfigurationErrors()) {
        Map<String, Object> r = new LinkedHashMap<>();
        r.put("component", text(e.getComponentName()));
        r.put("key", text(e.getKey()));
        r.put("type", e.getErrorType().name());
        r.put("severity", e.getErrorOrWarning().name());
        errors.add(json(r, null));
        byText.put(json(r, null), r);
      }
      Collections.sort(errors); // Flume's own order is that of a hash map
      for (String e : errors) records.add(byText.get(e));
      out.put("errors", records);
      out.put("agents", sorted(((Map<?, ?>) field(c, "agentConfigMap")).keySet()));
      FlumeConfiguration.AgentConfiguration a = c.getConfigurationFor(agent);
      if (a != null) {
        out.put("sources", sorted(a.getSourceSet()));
        out.put("channels", sorted(a.getChannelSet()));
        out.put("sinks", sorted(a.getSinkSet()));
        out.put("groups", sorted(a.getSinkgroupSet()));
        Map<String, Object> contexts = new LinkedHashMap<>();
        contexts.put("sources", contexts(a.getSourceContext()));
        contexts.put("channels", contexts(a.getChannelContext()));
        contexts.put("sinks", contexts(a.getSinkContext()));
        out.put("contexts", contexts);
      }
    } catch (Throwable t) {
      out.put("error", describe(t));
    }
    out.put("log", sorted(SEEN));
    return out;
  }

  // The properties that the components will be configured with. (A logger sink has none: Flume drops them.)
  static Object contexts(Map<String, Context> all) {
    Map<String, Object> out = new TreeMap<>();
    for (Map.Entry<String, Context> e : all.entrySet()) {
      Map<String, Object> m = new TreeMap<>();
      for (Map.Entry<String, String> p : e.getValue().getParameters().entrySet()) {
        String v = text(p.getValue());
        if (p.getKey().equals("channels")) v = String.join(" ", sorted(Arrays.asList(v.split("\\s+")))); // rewritten in hash order
        m.put(text(p.getKey()), v);
      }
      out.put(text(e.getKey()), m);
    }
    return out;
  }

  // What is left when the components have been built and configured.
  static Object load(Path f, String agent) throws Exception {
    Map<String, Object> out = new LinkedHashMap<>();
    SEEN.clear();
    try {
      PropertiesFileConfigurationProvider p = new PropertiesFileConfigurationProvider(agent, f.toFile());
      p.getFlumeConfiguration();
      Set<String> parse = new HashSet<>(SEEN);
      MaterializedConfiguration m;
      try {
        m = p.getConfiguration(); // parses again
      } finally {
        SEEN.removeAll(parse); // that part of the log is in the verdict already
      }
      Map<String, Object> sources = new TreeMap<>(), channels = new TreeMap<>(), sinks = new TreeMap<>(), groups = new TreeMap<>();
      for (Map.Entry<String, Channel> e : m.getChannels().entrySet()) {
        Map<String, Object> r = new LinkedHashMap<>();
        r.put("class", e.getValue().getClass().getName());
        if (e.getValue() instanceof org.apache.flume.channel.MemoryChannel) {
          BlockingDeque<?> q = (BlockingDeque<?>) field(e.getValue(), "queue");
          r.put("capacity", q.size() + q.remainingCapacity());
        }
        if (e.getValue() instanceof TransactionCapacitySupported) {
          r.put("transactionCapacity", ((TransactionCapacitySupported) e.getValue()).getTransactionCapacity());
        }
        channels.put(text(e.getKey()), r);
      }
      for (Map.Entry<String, SourceRunner> e : m.getSourceRunners().entrySet()) {
        Source s = e.getValue().getSource();
        Map<String, Object> r = new LinkedHashMap<>();
        r.put("class", s.getClass().getName());
        if (s instanceof BatchSizeSupported) r.put("batchSize", ((BatchSizeSupported) s).getBatchSize());
        List<String> to = new ArrayList<>();
        for (Channel c : s.getChannelProcessor().getSelector().getAllChannels()) to.add(text(c.getName()));
        r.put("channels", sorted(to));
        r.put("selector", s.getChannelProcessor().getSelector().getClass().getSimpleName());
        List<Object> chain = new ArrayList<>(); // in order
        for (Object i : (List<?>) field(field(s.getChannelProcessor(), "interceptorChain"), "interceptors")) {
          chain.add(i.getClass().getSimpleName());
        }
        r.put("interceptors", chain);
        sources.put(text(e.getKey()), r);
      }
      for (Map.Entry<String, SinkRunner> e : m.getSinkRunners().entrySet()) {
        SinkProcessor proc = e.getValue().getPolicy();
        if (proc instanceof DefaultSinkProcessor && ((Sink) field(proc, "sink")).getName().equals(e.getKey())) {
          Sink s = (Sink) field(proc, "sink");
          Map<String, Object> r = new LinkedHashMap<>();
          r.put("class", s.getClass().getName());
          if (s instanceof BatchSizeSupported) r.put("batchSize", ((BatchSizeSupported) s).getBatchSize());
          r.put("channel", text(s.getChannel().getName()));
          sinks.put(text(e.getKey()), r);
        } else {
          groups.put(text(e.getKey()), members(proc));
        }
      }
      out.put("sources", sources);
      out.put("channels", channels);
      out.put("sinks", sinks);
      out.put("groups", groups);
    } catch (Throwable t) {
      out.put("error", describe(t));
    }
    out.put("log", sorted(SEEN));
    return out;
  }

  static Object members(SinkProcessor p) throws Exception {
    Map<String, Object> r = new LinkedHashMap<>();
    r.put("class", p.getClass().getName());
    List<String> names = new ArrayList<>();
    Map<String, Object> channels = new TreeMap<>();
    Collection<?> all;
    if (p instanceof DefaultSinkProcessor) all = List.of(field(p, "sink"));
    else if (p instanceof org.apache.flume.sink.FailoverSinkProcessor) all = ((Map<?, ?>) field(p, "sinks")).values();
    else all = (Collection<?>) field(p, "sinkList");
    for (Object s : all) {
      names.add(text(((Sink) s).getName()));
      channels.put(text(((Sink) s).getName()), text(((Sink) s).getChannel().getName()));
    }
    r.put("sinks", sorted(names));
    if (p instanceof org.apache.flume.sink.FailoverSinkProcessor) { // a second sink of one priority is never used
      List<String> live = new ArrayList<>();
      for (Object s : ((Map<?, ?>) field(p, "liveSinks")).values()) live.add(text(((Sink) s).getName()));
      r.put("live", live); // lowest priority first
    }
    r.put("channels", channels);
    return r;
  }

  static Object field(Object o, String name) throws Exception {
    for (Class<?> c = o.getClass(); c != null; c = c.getSuperclass()) {
      try {
        Field f = c.getDeclaredField(name);
        f.setAccessible(true);
        return f.get(o);
      } catch (NoSuchFieldException e) {
        // a superclass may have it
      }
    }
    throw new NoSuchFieldException(o.getClass() + "." + name);
  }

  // ---- the log: warnings and errors of Flume's own classes, sorted ------------------------------------------------------

  static final Set<String> SEEN = new TreeSet<>();

  static void captureLog() {
    // Flume's context: a program run from its source has a class loader, and so a context, of its own
    LoggerContext ctx = (LoggerContext) LogManager.getContext(FlumeConfiguration.class.getClassLoader(), false);
    Configuration c = ctx.getConfiguration();
    AbstractAppender a = new AbstractAppender("oracle", null, null, true, Property.EMPTY_ARRAY) {
      @Override public void append(LogEvent e) {
        if (e.getMessage().getFormattedMessage().endsWith("has no configfilters.")) return; // said of every agent
        String s = e.getLevel() + " " + text(e.getMessage().getFormattedMessage().strip());
        if (e.getThrown() != null) s += " | " + describe(e.getThrown());
        SEEN.add(s);
      }
    };
    a.start();
    LoggerConfig l = new LoggerConfig("org.apache.flume", Level.WARN, false);
    l.addAppender(a, Level.WARN, null);
    c.addLogger("org.apache.flume", l);
    c.getRootLogger().setLevel(Level.OFF);
    ctx.updateLoggers();
  }

  static String describe(Throwable t) {
    if (t instanceof InvocationTargetException && t.getCause() != null) t = t.getCause();
    String s = t.getClass().getName() + ": " + text(t.getMessage());
    if (t.getCause() != null && t.getCause() != t) s += " <- " + describe(t.getCause());
    return s;
  }

  // Flume reads ISO-8859-1. The verdict shows what the writer of a UTF-8 file meant, so that a reader of UTF-8 can compare.
  static String text(String s) {
    if (s == null) return null;
    if (s.chars().allMatch(c -> c < 0x80) || s.chars().anyMatch(c -> c > 0xff)) return s;
    try {
      return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(s.getBytes(StandardCharsets.ISO_8859_1))).toString();
    } catch (CharacterCodingException e) {
      return s;
    }
  }

  static List<String> sorted(Collection<?> c) {
    List<String> l = new ArrayList<>();
    for (Object o : c) l.add(text(String.valueOf(o)));
    Collections.sort(l);
    return l;
  }

  // ---- java.util.Properties --------------------------------------------------------------------------------------------

  static final int RANDOM_TEXTS = 400;
  static final long SEED = 20261122;
  static final String[] LETTERS =
      {"a", "b", ".", "=", ":", "#", "!", "\\", "\n", "\r", "\t", "\f", "u", "0", "4", "1", "\u00e9", " "};
  static final String[] CHUNKS =
      {"\\u0041", "\\u00e9", "\\u04", "\\\n", "\\\r\n", "\\\\", "\r\n", "\n ", "a.b", " = ", ": ", "\n#", "\\ ", "\\=", "\\t"};

  static void properties(Path dir, Path out) throws IOException {
    StringBuilder b = new StringBuilder();
    List<Path> files = new ArrayList<>();
    try (java.nio.file.DirectoryStream<Path> d = Files.newDirectoryStream(dir, "*.properties")) {
      d.forEach(files::add);
    }
    Collections.sort(files);
    for (Path f : files) line(b, f.getFileName().toString().replaceFirst("\\.properties$", ""), Files.readAllBytes(f));
    Random r = new Random(SEED); // its sequence is part of Java's specification
    for (int i = 0; i < RANDOM_TEXTS; i++) {
      StringBuilder t = new StringBuilder();
      int n = 1 + r.nextInt(24);
      boolean chunks = i % 2 == 1; // every second text has whole escapes and line ends among its letters
      for (int k = 0; k < n; k++) {
        t.append(chunks && r.nextInt(3) == 0 ? CHUNKS[r.nextInt(CHUNKS.length)] : LETTERS[r.nextInt(LETTERS.length)]);
      }
      line(b, String.format("random-%03d", i), t.toString().getBytes(StandardCharsets.UTF_8));
    }
    Files.writeString(out, b.toString());
  }

  static void line(StringBuilder b, String name, byte[] bytes) throws IOException {
    Map<String, Object> o = new LinkedHashMap<>();
    o.put("name", name);
    o.put("text_base64", Base64.getEncoder().encodeToString(bytes));
    try (Reader in = new InputStreamReader(new ByteArrayInputStream(bytes), StandardCharsets.UTF_8)) {
      Properties p = new Properties();
      p.load(in);
      Map<String, Object> m = new TreeMap<>();
      for (String k : p.stringPropertyNames()) m.put(k, p.getProperty(k));
      o.put("props", m);
    } catch (IllegalArgumentException e) {
      o.put("error", e.getMessage());
    }
    b.append(json(o, null)).append('\n');
  }

  // ---- JSON: indented, or on one line when indent is null ------------------------------------------------------------------

  static String json(Object v, String indent) {
    if (v == null || v instanceof Number || v instanceof Boolean) return String.valueOf(v);
    if (v instanceof String) return quote((String) v);
    boolean map = v instanceof Map;
    Collection<?> items = map ? ((Map<?, ?>) v).entrySet() : (Collection<?>) v;
    String open = map ? "{" : "[", close = map ? "}" : "]";
    if (items.isEmpty()) return open + close;
    // a flat thing stays on one line
    boolean flat = indent == null || items.stream().noneMatch(i -> {
      Object x = i instanceof Map.Entry ? ((Map.Entry<?, ?>) i).getValue() : i;
      return x instanceof Map || x instanceof Collection && !((Collection<?>) x).isEmpty() && !((Collection<?>) x).stream().allMatch(y -> y instanceof String && ((String) y).length() < 24);
    });
    if (flat && indent != null && items.stream().anyMatch(i -> i instanceof String && ((String) i).length() >= 24)) flat = false;
    String in = flat ? null : indent + "  ";
    StringJoiner j = flat ? new StringJoiner(indent == null ? "," : ", ", open, close) : new StringJoiner(",\n" + in, open + "\n" + in, "\n" + indent + close);
    for (Object i : items) {
      if (i instanceof Map.Entry) {
        Map.Entry<?, ?> e = (Map.Entry<?, ?>) i;
        j.add(quote((String) e.getKey()) + (indent == null ? ":" : ": ") + json(e.getValue(), in));
      } else {
        j.add(json(i, in));
      }
    }
    return j.toString();
  }

  static String quote(String s) {
    StringBuilder b = new StringBuilder("\"");
    for (char c : s.toCharArray()) {
      switch (c) {
        case '"': b.append("\\\""); break;
        case '\\': b.append("\\\\"); break;
        case '\n': b.append("\\n"); break;
        case '\r': b.append("\\r"); break;
        case '\t': b.append("\\t"); break;
        default:
          if (c < 0x20 || c == 0x7f || c >= 0xd800 && c <= 0xdfff || c == 0xfeff || c == 0xa0) b.append(String.format("\\u%04x", (int) c));
          else b.append(c);
      }
    }
    return b.append('"').toString();
  }
}
