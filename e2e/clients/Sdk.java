// Sends the lines of a file by Flume's own RPC client, as a program with it does: what was not delivered is sent
// again, and a client that is of no use any more is replaced.
//
//	Sdk PROPERTIES FILE
//
// Prints "sent N" now and then, and at the end "done N retries R".
import java.io.FileInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.flume.Event;
import org.apache.flume.EventDeliveryException;
import org.apache.flume.FlumeException;
import org.apache.flume.api.RpcClient;
import org.apache.flume.api.RpcClientFactory;
import org.apache.flume.event.EventBuilder;

public class Sdk {
  public static void main(String[] args) throws Exception {
    Properties p = new Properties();
    try (FileInputStream in = new FileInputStream(args[0])) {
      p.load(in);
    }
    List<String> lines = Files.readAllLines(Path.of(args[1]), StandardCharsets.UTF_8);
    int batch = Integer.parseInt(p.getProperty("batch-size"));
    int retries = 0;
    RpcClient client = null;
    for (int from = 0; from < lines.size(); ) {
      List<Event> events = new ArrayList<>();
      for (String line : lines.subList(from, Math.min(from + batch, lines.size()))) {
        events.add(EventBuilder.withBody(line, StandardCharsets.UTF_8, Map.of("k", "v")));
      }
      try {
        if (client == null) {
          client = RpcClientFactory.getInstance(p);
        }
        if (events.size() == 1) {
          client.append(events.get(0));
        } else {
          client.appendBatch(events);
        }
        from += events.size();
        if (from / 100 != (from - events.size()) / 100) {
          System.out.println("sent " + from);
        }
        Thread.sleep(1);
      } catch (EventDeliveryException | FlumeException e) {
        retries++;
        if (client != null && !client.isActive()) {
          client.close();
          client = null;
        }
        Thread.sleep(200);
      }
    }
    client.close();
    System.out.println("done " + lines.size() + " retries " + retries);
    System.exit(0); // threads of the client may be left
  }
}
