// The server `Lucene3`, on Lucene 3.6.

package katamari.lucene;

import java.util.Set;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.standard.StandardAnalyzer;
import org.apache.lucene.util.Version;

public final class Lucene3 {
  private Lucene3() {}

  public static void main(String[] arguments) throws Exception {
    Settings settings = Settings.ofEnvironment();
    Analyzer analyzer = analyzer(settings.analyzer());
    Program.run(
        arguments,
        (path, name) -> Lucene3Shard.open(path, settings, analyzer),
        katamari_lucene.Lucene3.Processor::new,
        folder -> new Lucene3Writer(folder, analyzer));
  }

  private static Analyzer analyzer(String name) {
    if (name.isEmpty()) return new StandardAnalyzer(Version.LUCENE_36, Set.of());
    try {
      Class<?> type = Class.forName(name);
      try {
        return (Analyzer) type.getConstructor(Version.class).newInstance(Version.LUCENE_36);
      } catch (NoSuchMethodException plain) {
        return (Analyzer) type.getConstructor().newInstance();
      }
    } catch (ReflectiveOperationException | ClassCastException error) {
      throw new IllegalArgumentException(
          "KATAMARI_LUCENE_ANALYZER is \"" + name + "\", expected the class of an analyzer of Lucene 3 on the class path, "
              + "with a constructor that takes a Version or nothing: " + error, error);
    }
  }
}
