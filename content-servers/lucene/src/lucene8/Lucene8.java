// The server `Lucene`, on Lucene 8.

package katamari.lucene;

import katamari_lucene.Lucene;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.CharArraySet;
import org.apache.lucene.analysis.standard.StandardAnalyzer;

public final class Lucene8 {
  private Lucene8() {}

  public static void main(String[] arguments) throws Exception {
    Settings settings = Settings.ofEnvironment();
    Analyzer analyzer = analyzer(settings.analyzer());
    Program.run(
        arguments,
        (path, name) -> Lucene8Shard.open(path, settings, analyzer),
        Lucene.Processor::new,
        folder -> new Lucene8Writer(folder, analyzer));
  }

  private static Analyzer analyzer(String name) {
    if (name.isEmpty()) return new StandardAnalyzer(CharArraySet.EMPTY_SET);
    try {
      return (Analyzer) Class.forName(name).getConstructor().newInstance();
    } catch (ReflectiveOperationException | ClassCastException error) {
      throw new IllegalArgumentException(
          "KATAMARI_LUCENE_ANALYZER is \"" + name + "\", expected the class of an analyzer of Lucene 8 on the class path, "
              + "with a constructor without arguments: " + error, error);
    }
  }
}
