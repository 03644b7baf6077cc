// The command of a Lucene server: without arguments it serves, `build` builds shards.

package katamari.lucene;

import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import katamari.chassis.Chassis;
import katamari.chassis.Content;
import katamari.chassis.Options;
import org.apache.thrift.TBaseProcessor;

final class Program {
  /** Where the start script says that the IDL file is. */
  private static final String IDL = System.getProperty("katamari.lucene.idl", "lucene.thrift");
  private static final String VERSION = "1.0.0";

  private Program() {}

  static void run(
      String[] arguments,
      Content.Opener<TextShard> opener,
      Function<SearchHandlers, ? extends TBaseProcessor<SearchHandlers>> processor,
      ShardWriter.Factory writers)
      throws Exception {
    List<String> words = Arrays.asList(arguments);
    if (words.isEmpty()) {
      Content<TextShard> content = new Content<>(opener);
      int concurrency = Runtime.getRuntime().availableProcessors();
      Options options = new Options(IDL, VERSION).concurrency(concurrency).content(content);
      Chassis.serve(new SearchHandlers(content), processor, options);
      return;
    }
    try {
      if (!words.get(0).equals("build"))
        throw new Builder.Refused("unknown command " + words.get(0) + "; without a command it serves, `build` builds");
      new Builder(writers).run(words.subList(1, words.size()));
    } catch (Builder.Refused refused) {
      System.err.println(refused.getMessage());
      System.exit(1);
    }
  }
}
