// Lucene's classic query parser with expansions that score exactly: each term counts by its own statistics.

package katamari.lucene;

import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.index.Term;
import org.apache.lucene.queryparser.classic.ParseException;
import org.apache.lucene.queryparser.classic.QueryParser;
import org.apache.lucene.queryparser.classic.TokenMgrError;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.FuzzyQuery;
import org.apache.lucene.search.MultiTermQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.TermQuery;
import katamari_search.BadQuery;

final class Lucene8Parser extends QueryParser {
  private final boolean isScored;

  private Lucene8Parser(String field, Analyzer analyzer, boolean isScored) {
    super(field, analyzer);
    this.isScored = isScored;
    setMultiTermRewriteMethod(
        isScored ? MultiTermQuery.SCORING_BOOLEAN_REWRITE : MultiTermQuery.CONSTANT_SCORE_REWRITE);
  }

  /** @param isScored false for a query that only selects documents: its patterns may match any number of terms */
  static Query parse(String query, String field, Analyzer analyzer, boolean isScored) throws BadQuery {
    try {
      return new Lucene8Parser(field, analyzer, isScored).parse(query);
    } catch (ParseException | TokenMgrError error) {
      if (error.getCause() instanceof BooleanQuery.TooManyClauses) throw Queries.tooManyTerms();
      throw Queries.notUnderstood(error, query);
    } catch (BooleanQuery.TooManyClauses error) {
      throw Queries.tooManyTerms();
    } catch (IllegalArgumentException error) {
      throw Queries.bad("the query cannot be used: " + error.getMessage());
    }
  }

  /** The default one blends the frequencies of the terms, which differ between shards. */
  @Override
  protected Query newFuzzyQuery(Term term, float similarity, int prefixLength) {
    int edits = FuzzyQuery.floatToEdits(similarity, term.text().codePointCount(0, term.text().length()));
    FuzzyQuery query = new FuzzyQuery(term, edits, prefixLength, SearchLimits.TERMS_MAX, true);
    query.setRewriteMethod(
        isScored
            ? new MultiTermQuery.TopTermsScoringBooleanQueryRewrite(SearchLimits.TERMS_MAX)
            : MultiTermQuery.CONSTANT_SCORE_REWRITE);
    return query;
  }

  /** The default one counts by the most frequent of the synonyms that a shard has. */
  @Override
  protected Query newSynonymQuery(TermAndBoost[] terms) {
    BooleanQuery.Builder any = new BooleanQuery.Builder();
    for (TermAndBoost one : terms) any.add(new TermQuery(one.term), BooleanClause.Occur.SHOULD);
    return any.build();
  }
}
