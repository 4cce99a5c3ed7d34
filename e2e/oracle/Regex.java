// The oracle for regular expressions: what java.util.regex makes of them. Run by run.sh, which see.
//
//   java Regex.java PATTERNS OUT.jsonl    the patterns of a file, and generated ones, each with texts
//
// PATTERNS: a line that begins with / is a pattern, the rest of the line; lines that begin with a blank are texts for
// it, with \n \r \\ and \\uXXXX. A line of OUT has the pattern and either an error or, for each text, all matches: begin
// and end, in bytes of UTF-8, of the whole and of each group. Matches that cut a surrogate pair are left out.
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

public class Regex {
  static final Random random = new Random(42);

  public static void main(String[] args) throws Exception {
    try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(Path.of(args[1])))) {
      String pattern = null;
      List<String> texts = new ArrayList<>();
      for (String line : Files.readAllLines(Path.of(args[0]))) {
        if (line.startsWith("/")) {
          if (pattern != null) out.println(verdict(pattern, texts));
          pattern = line.substring(1);
          texts.clear();
        } else if (line.startsWith(" ")) {
          texts.add(unescape(line.substring(1)));
        }
      }
      out.println(verdict(pattern, texts));
      for (int i = 0; i < 700; i++) {
        groups = 0;
        String p = alternatives(3);
        if (random.nextInt(6) == 0) p = pick("(?i)", "(?m)", "(?s)", "(?d)", "(?md)", "(?x)", "(?iu)", "(?U)") + p;
        texts.clear();
        for (int t = 0; t < 4; t++) texts.add(text());
        out.println(verdict(p, texts));
      }
      for (int i = 0; i < 300; i++) { // mostly not expressions at all
        StringBuilder b = new StringBuilder();
        for (int n = 1 + random.nextInt(9); n > 0; n--)
          b.append(pick("(", ")", "[", "]", "{", "}", "?", "*", "+", "|", "\\", "^", "$", ".", "-", "&&", "a", "b", "1", "2", ",", ":", "<", ">", "=", "!", "i", "x",
              "d", "Q", "E", "p", "&", "#", " "));
        texts.clear();
        texts.add(text());
        texts.add("a1&b");
        out.println(verdict(b.toString(), texts));
      }
    }
  }

  // ---- verdicts ------------------------------------------------------------------------------------------------------

  static String verdict(String pattern, List<String> texts) {
    StringBuilder b = new StringBuilder("{\"pattern\":").append(json(pattern));
    Pattern p;
    try {
      p = Pattern.compile(pattern);
    } catch (PatternSyntaxException e) {
      return b.append(",\"error\":").append(json(e.getDescription())).append("}").toString();
    } catch (RuntimeException e) {
      return b.append(",\"error\":").append(json(e.toString())).append("}").toString();
    }
    b.append(",\"texts\":[");
    boolean first = true;
    for (String t : texts) {
      String all = matches(p, t);
      if (all == null) continue;
      b.append(first ? "" : ",").append("{\"text\":").append(json(t)).append(",\"all\":").append(all).append("}");
      first = false;
    }
    return b.append("]}").toString();
  }

  static String matches(Pattern p, String t) {
    try {
      return spans(p.matcher(t), t);
    } catch (NullPointerException e) {
      return null; // a fault of Java 17's own with [[a]&&&b]
    }
  }

  static String spans(Matcher m, String t) {
    StringBuilder b = new StringBuilder("[");
    while (m.find()) {
      b.append(b.length() > 1 ? ",[" : "[");
      for (int g = 0; g <= m.groupCount(); g++) {
        for (int at : new int[] {m.start(g), m.end(g)}) {
          if (at > 0 && at < t.length() && Character.isLowSurrogate(t.charAt(at)) && Character.isHighSurrogate(t.charAt(at - 1))) return null;
          if (b.charAt(b.length() - 1) != '[') b.append(',');
          b.append(at < 0 ? -1 : t.substring(0, at).getBytes(StandardCharsets.UTF_8).length);
        }
      }
      b.append("]");
    }
    return b.append("]").toString();
  }

  static String json(String s) {
    StringBuilder b = new StringBuilder("\"");
    for (char c : s.toCharArray()) {
      if (c == '"' || c == '\\') b.append('\\').append(c);
      else if (c < ' ' || c > '~') b.append(String.format("\\u%04x", (int) c));
      else b.append(c);
    }
    return b.append("\"").toString();
  }

  static String unescape(String s) {
    StringBuilder b = new StringBuilder();
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      if (c != '\\') {
        b.append(c);
        continue;
      }
      switch (c = s.charAt(++i)) {
        case 'n' -> b.append('\n');
        case 'r' -> b.append('\r');
        case 't' -> b.append('\t');
        case 'u' -> {
          b.append((char) Integer.parseInt(s.substring(i + 1, i + 5), 16));
          i += 4;
        }
        default -> b.append(c);
      }
    }
    return b.toString();
  }

  // ---- generated patterns --------------------------------------------------------------------------------------------

  static int groups;

  static String pick(String... of) {
    return of[random.nextInt(of.length)];
  }

  static String alternatives(int depth) {
    StringBuilder b = new StringBuilder(sequence(depth));
    while (random.nextInt(5) == 0) b.append("|").append(sequence(depth));
    return b.toString();
  }

  static String sequence(int depth) {
    StringBuilder b = new StringBuilder();
    for (int n = random.nextInt(4); n >= 0; n--) b.append(atom(depth)).append(random.nextInt(3) == 0 ? quantifier() : "");
    return b.toString();
  }

  static String quantifier() {
    return pick("*", "+", "?", "{2}", "{1,2}", "{0,3}", "{1,}", "{0}") + (random.nextInt(4) == 0 ? pick("?", "?", "+") : "");
  }

  static String atom(int depth) {
    int kind = random.nextInt(depth > 0 ? 22 : 12);
    switch (kind) {
      case 0, 1, 2, 3, 4: return pick("a", "b", "c", "1", " ", "\u00e9", "A", "k", "-", "\ud83d\ude00", "\\.", "]", "}");
      case 5: return pick(".", ".", ".*", ".+?");
      case 6: return pick("\\d", "\\w", "\\s", "\\D", "\\W", "\\S", "\\h", "\\v", "\\R", "\\H", "\\V");
      case 7: return pick("^", "$", "\\A", "\\z", "\\Z", "\\b", "\\B", "$", "^", "$");
      case 8: return "[" + pick("", "", "^") + members(depth) + "]";
      case 9: return pick("\\p{L}", "\\p{Alpha}", "\\P{Upper}", "\\p{Lu}", "\\p{Punct}", "\\p{IsLatin}", "\\p{javaLowerCase}", "\\pN", "\\p{IsAlphabetic}", "\\p{InBasicLatin}");
      case 10: return pick("\\x61", "\\u0062", "\\x{63}", "\\t", "\\n", "\\r", "\\061", "\\Qa.b\\E", "\\cJ", "\\e");
      case 11: return groups > 0 ? "\\" + (1 + random.nextInt(groups)) : pick("a", "\\1");
      case 12, 13, 14, 15: groups++; return "(" + alternatives(depth - 1) + ")";
      case 16: return "(?:" + alternatives(depth - 1) + ")";
      case 17: return pick("(?=", "(?!", "(?>", "(?=") + alternatives(depth - 1) + ")";
      case 18: return pick("(?<=", "(?<!") + pick("a", "b|c", "\\d", "[ab]{1,2}", "^", "\\b", "a?") + ")";
      case 19: return pick("(?i:", "(?s:", "(?m:", "(?-i:", "(?iu:", "(?x: ") + alternatives(depth - 1) + ")";
      case 20: return pick("(?i)", "(?m)", "(?s)");
      default: groups++; return "(?<n" + groups + ">" + alternatives(depth - 1) + ")";
    }
  }

  static String members(int depth) {
    StringBuilder b = new StringBuilder();
    for (int n = 1 + random.nextInt(3); n > 0; n--)
      b.append(pick("a", "b", "a-c", "A-Z", "0-9", "\\d", "\\w", "\\s", "-", ".", "^", "&", "\\]", "\\p{Lu}", "\u00e0-\u00ff", "\\n", "]", "\\x41-\\x43", " ", "#"));
    if (depth > 0 && random.nextInt(3) == 0) b.append(pick("[", "&&[", "&&[^")).append(members(depth - 1)).append("]");
    if (random.nextInt(8) == 0) b.append("&&").append(members(0));
    if (random.nextInt(8) == 0) b.append(pick("c", "x-z"));
    return b.toString();
  }

  static String text() {
    StringBuilder b = new StringBuilder();
    for (int n = random.nextInt(8); n > 0; n--)
      b.append(pick("a", "a", "b", "b", "c", "A", "B", "1", "2", " ", "-", ".", "\u00e9", "\u00c9", "k", "\u212a", "\ud83d\ude00", "\n", "]", "_", "&"));
    return b.append(pick("", "", "", "", "\n", "\r\n", "\r", "\n\r", "\u0085", "\u2028")).toString();
  }
}
